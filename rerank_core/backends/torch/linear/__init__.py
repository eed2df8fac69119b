"""Linear layers on the CPU: weights laid out for oneDNN, or in int8."""
