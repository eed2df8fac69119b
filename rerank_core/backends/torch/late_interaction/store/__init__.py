"""Stores of document embeddings: in memory, and in a folder of shards."""
