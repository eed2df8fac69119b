"""Finds errors and warnings in training data, in single rows and in the data as a whole."""
