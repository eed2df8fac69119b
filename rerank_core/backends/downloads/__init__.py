"""Downloads a model's files, or finds them in a cache: Hugging Face's hub, and ModelScope."""
