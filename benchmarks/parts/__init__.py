"""Code that the benchmarks share: models, texts, timing, stored measurements and summaries."""
