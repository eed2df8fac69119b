"""Threads that compute batches side by side on the CPU, and copies of a model on several devices."""
