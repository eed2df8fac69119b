"""The sets and the models that benchmarks/evaluation.py compares."""
