"""The straight forward pass of BERT-like encoders."""
