"""The parts of benchmarks/gpu.py: what is measured, how it is timed, and the ways that are compared."""
