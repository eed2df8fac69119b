"""Tables of docs/training.md on embedding and late-interaction models: quality and speed."""
