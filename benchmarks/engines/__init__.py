"""The runtimes and trainers that are timed, each a script for its own environment, and the process that drives them."""
