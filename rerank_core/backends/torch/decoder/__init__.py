"""Causal language models: rows after a shared prefix, run layer by layer, scored at the last token."""
