"""The model options that a head brings: layers, kinds of score, labels, the length of vectors."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.errors import short
from rerank_core.spec.model_option import ModelOption

__all__ = ["label_option", "layer_options", "score_option", "truncate_option"]


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


def label_option(labels: Sequence[str], default: str | None) -> ModelOption:
    """The option ``label`` (fixed at load) of a classifier with several labels; `ModelSpec` adds it.

    Args:
        labels: their names, by number.
        default: the label that is the score where the caller names none.
    """
    return ModelOption(
        "label",
        "name",
        f"the label whose log-odds against all others is the score, by name or number: {short(list(labels))}",
        default=default,
    )


def truncate_option(default: int | None = None) -> ModelOption:
    """The option ``truncate_dim`` (fixed at load) of a model with `Head.cosine`; `ModelSpec` adds it.

    Args:
        default: the number of values that the authors keep; None for all.
    """
    return ModelOption(
        "truncate_dim",
        "int",
        "keep the first values of each vector and scale it to length 1 again, for a model trained for that "
        "(Matryoshka); by default " + ("all" if default is None else str(default)),
        default=default,
    )
