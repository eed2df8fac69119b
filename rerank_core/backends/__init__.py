"""What turns a `ModelSpec` into a `Scorer`. Imported only when a model is loaded."""
