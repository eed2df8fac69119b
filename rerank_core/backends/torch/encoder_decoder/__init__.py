"""Rerankers that are encoder-decoders (T5, T5Gemma): one decoder step, scored by the logits of label tokens."""
