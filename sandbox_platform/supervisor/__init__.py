"""One process that sets this installation up, starts its parts, keeps them alive and ends them without remainders.

The only place, beside `urls.py`, where the project's own package knows the apps above it: it puts the house together.
"""
