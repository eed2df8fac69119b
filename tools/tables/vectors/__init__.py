"""Tables of docs/training-results.md on embedding and late-interaction models: quality and speed."""
