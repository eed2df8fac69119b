"""Suites: published sets of judged data by name, from a folder or from the hub, with results in mteb's format."""
