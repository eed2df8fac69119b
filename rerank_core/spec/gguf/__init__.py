"""GGUF, the files of llama.cpp: which file a folder means, what it says about itself, and the spec of a reranker."""
