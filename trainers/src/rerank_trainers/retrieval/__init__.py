"""Search over a corpus: BM25, or any reranker as a retriever."""
