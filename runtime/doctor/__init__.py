"""What this host enforces, what it cannot, and how to mend it. Reads only, apart from the drivers' own trials."""
