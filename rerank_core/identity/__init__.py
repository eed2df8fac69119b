"""What identifies a loaded model, and calibrations, which belong to one model."""
