"""Runs: every model ranks every set in a process of its own, and the results are kept."""
