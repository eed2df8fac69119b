"""Pure functions of lengths: windows of long documents, planned rows, batches."""
