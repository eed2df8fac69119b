"""Tables of the documents, from benchmarks/results (cog calls these; `make fix` writes the tables)."""
