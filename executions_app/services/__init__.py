"""Business logic of executions: rows plus queue and executor."""
