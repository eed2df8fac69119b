"""LoRA adapters: their settings, and how they are merged into the base model."""
