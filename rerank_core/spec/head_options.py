"""`layer_options`: the model options of a head with a score at several layers."""

from __future__ import annotations

from rerank_core.spec.model_option import ModelOption

__all__ = ["layer_options", "score_option"]


def layer_options(default: int | None = None) -> tuple[ModelOption, ModelOption]:
    """The options ``layer`` (fixed at load) and ``cascade`` (per call) of a model with `Head.layers`.

    `ModelSpec` adds both to a spec without ``scorer``. A spec with ``scorer`` lists the ones that its scorer supports.

    Args:
        default: the layer that scores where the caller names none; None for the deepest.
    """
    deepest = ", by default the deepest" if default is None else ""
    layer = ModelOption(
        "layer",
        "ints",
        f"the layer that scores{deepest}; of several layers the last listed ranks; deeper ones are not loaded",
        default=None if default is None else (default,),
    )
    cascade = ModelOption(
        "cascade", "counts", "{8: 30}: score all documents at layer 8, and the best 30 of them at `layer`", when="call"
    )
    return layer, cascade


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
