"""Sequence classifiers that read query and document together."""
