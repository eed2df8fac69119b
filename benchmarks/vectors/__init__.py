"""The parts of benchmarks/vector_training.py: judged sets, training files, the list of runs, training, measuring."""
