"""The model that is trained: its source, weights, adapters and checkpoints."""
