"""Scores of a published folder in transformers and sentence-transformers, by the code that the model card shows."""

from rerank_trainers.publish.other_libraries.by_head import plain_scores, plain_use

__all__ = ["plain_scores", "plain_use"]
