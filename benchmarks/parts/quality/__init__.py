"""Judged data, first stages and metrics of the benchmarks that measure quality."""
