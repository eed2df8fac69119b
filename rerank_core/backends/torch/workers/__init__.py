"""Threads that compute batches side by side on the CPU."""
