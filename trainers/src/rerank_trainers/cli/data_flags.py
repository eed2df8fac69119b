"""Flags of `rerank train check` and of training that describe the data, as settings of ``data``."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

import typer

from rerank_core.records.label_scale import LabelScale

__all__ = ["LabelRange", "Objective", "OnErrorFlag", "ScoresAreFlag", "Settings", "data_settings"]


class OnError(str, Enum):
    """Treatment of rows with errors."""

    error = "error"
    drop = "drop"
    warn = "warn"


class ScoresAre(str, Enum):
    """Meaning of ``pos_scores`` and ``neg_scores``."""

    teacher = "teacher"
    labels = "labels"


LabelRange = Annotated[
    str | None,
    typer.Option(
        metavar="LOW,HIGH", help=f"Lowest and highest label, by default 0,1; or {', '.join(LabelScale.NAMED)}."
    ),
]
ScoresAreFlag = Annotated[
    ScoresAre | None,
    typer.Option(help="Meaning of pos_scores and neg_scores: teacher scores (default) or graded labels."),
]
OnErrorFlag = Annotated[
    OnError | None,
    typer.Option(help="Rows with errors: stop (error, default), drop them, or drop only unusable rows (warn)."),
]
Objective = Annotated[
    str | None, typer.Option(help="Objective, such as bce, softmax_ce, kl or infonce; docs/training.md lists all.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="A.B=C", help="Set any setting, overriding the configuration; can be repeated."
    ),
]


def data_settings(
    train: Sequence[str] | None,
    evaluate: Sequence[str] | None,
    label_range: str | None,
    scores_are: ScoresAre | None,
    on_error: OnError | None,
    encoding: str | None,
) -> dict[str, Any]:
    """The flags that were given, as settings of ``data``.

    Raises:
        InputError: an invalid label range.
    """
    given: dict[str, Any] = {}
    if train:
        given["train"] = list(train)
    if evaluate:
        given["eval"] = list(evaluate)
    if label_range is not None:
        scale = LabelScale.of(label_range)
        given["label_range"] = [scale.low, scale.high]
        given["label_map"] = None if scale.grades is None else {f"{label:g}": worth for label, worth in scale.grades}
    if scores_are is not None:
        given["scores_are"] = scores_are.value
    if on_error is not None:
        given["on_error"] = on_error.value
    if encoding is not None:
        given["encoding"] = encoding
    return given
