"""Layers that a checkpoint keeps beside its model: projections, and the stack that makes a score."""
