"""What a model is trained towards: pure functions from the scores of a query's documents to one loss."""
