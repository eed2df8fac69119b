"""Cuts of a model's scores for a precision or a recall, and calibrations to probabilities."""
