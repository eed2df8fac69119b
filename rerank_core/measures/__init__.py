"""Measures of rankings and of scores: calibration."""
