"""Specs of folders without a reranker.json: an adapter, an embedding model."""
