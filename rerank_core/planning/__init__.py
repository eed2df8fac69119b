"""Plans made from token counts alone: windows of long documents, rows, batches."""
