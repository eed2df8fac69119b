"""The dev set: metrics, confidence intervals, calibration."""
