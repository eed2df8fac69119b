"""Judged sets: files to queries with graded candidates, and the traps in them."""
