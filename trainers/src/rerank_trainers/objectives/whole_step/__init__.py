"""Objectives that compare the texts of a whole step, or their vectors with a teacher's."""
