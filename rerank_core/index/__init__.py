"""Document embeddings computed once for many queries, and explanations of late-interaction scores."""
