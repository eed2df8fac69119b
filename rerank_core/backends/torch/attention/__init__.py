"""Attention over rows of several lengths: packed end to end, or padded."""
