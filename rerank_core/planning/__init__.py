"""Plans made only from token counts: windows of long documents, rows, batches, and which worker computes them."""
