"""Files with which other libraries open a published folder: sentence-transformers, PyLate and FlagEmbedding."""
