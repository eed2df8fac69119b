"""What the benchmarks share: models, texts, clocks, kept measurements and summaries."""
