"""Business logic of nodes and containers: rows plus engines."""
