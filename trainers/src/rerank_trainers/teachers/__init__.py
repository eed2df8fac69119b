"""Scores of a teacher model, for distillation."""
