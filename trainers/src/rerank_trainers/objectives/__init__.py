"""Training objectives: pure functions from the scores of a query's documents to a loss per query."""
