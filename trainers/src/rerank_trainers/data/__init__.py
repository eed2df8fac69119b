"""Training rows on disk: opened, grouped, hashed and written."""
