"""Trainers of rerankers: data in, a checkpoint that rerank-core loads out. This module stays light."""
