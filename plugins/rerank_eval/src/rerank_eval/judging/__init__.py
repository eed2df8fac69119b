"""Judging: labels of a model, or of clicks and thumbs, and how far they agree with hand-made ones."""
