"""What the benchmarks share: engines, models, texts, clocks and summaries."""
