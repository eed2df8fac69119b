"""A training run: steps, forward passes, callbacks, checkpoints, resuming."""
