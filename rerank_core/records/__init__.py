"""Reads files and stdin: compression, encodings, JSON, tables and Parquet, into documents and training rows."""
