"""Figures: metrics with intervals, comparisons of models, floors and ceilings, depth, fusion."""
