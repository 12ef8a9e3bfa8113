"""Business logic of sessions: rows plus queue, executor and storage."""
