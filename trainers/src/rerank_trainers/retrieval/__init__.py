"""Search over a corpus: BM25 and late-interaction retrieval."""
