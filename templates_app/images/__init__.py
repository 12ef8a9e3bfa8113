"""Turn a template into what a driver starts from: the executor, packages, and for Docker a base. Knows no rows."""
