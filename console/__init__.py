"""The operators' console: the admin site as a whole. Each app has its own pages; what spans them all lives here."""
