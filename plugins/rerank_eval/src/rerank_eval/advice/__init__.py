"""Advice: which model to use within a time a query, how sure that is, and with which settings."""
