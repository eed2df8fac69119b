"""`score_option`: the option of a late-interaction head that also pools each text into one vector."""

from __future__ import annotations

from rerank_core.spec.model_option import ModelOption

__all__ = ["score_option"]


def score_option() -> ModelOption:
    """The option ``score`` (per call) of a model with ``Head.maxsim(pooling=...)``; `ModelSpec` adds it."""
    return ModelOption(
        "score",
        "str",
        "the score that ranks. maxsim: token vectors; cosine: one vector a text, better for queries as long as a "
        "document; both: the mean of the two",
        default="maxsim",
        when="call",
        choices=("maxsim", "cosine", "both"),
    )
