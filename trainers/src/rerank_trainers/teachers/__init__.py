"""Scores documents with a teacher model, for distillation."""
