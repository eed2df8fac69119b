"""Dev sets: documents of a row, search over a corpus, text pairs."""
