"""Options of `rerank rank` that combine the first stage's scores with the model's."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Annotated, Any

import typer

from rerank_core.combine import Combine, finite_number
from rerank_core.errors import InputError, short
from rerank_core.types import Document

__all__ = [
    "CombineBy",
    "FirstStageField",
    "FirstStageShare",
    "LowerIsBetter",
    "MissingScore",
    "Normalize",
    "RrfK",
    "combine_of",
    "first_stage_scores",
]


class _Method(str, Enum):
    """The methods of `Combine`."""

    rrf = "rrf"
    weighted = "weighted"


class _Normal(str, Enum):
    """How `Combine.weighted` normalizes."""

    zscore = "zscore"
    minmax = "minmax"


class _Missing(str, Enum):
    """What a missing score means."""

    error = "error"
    worst = "worst"


CombineBy = Annotated[
    _Method | None,
    typer.Option(
        "--combine",
        help="Combine the model's score with the score that each document has of the first stage, the search that "
        "found it: rrf (sum of 1 / (k + rank)) or weighted (weighted mean of normalized scores).",
    ),
]
FirstStageField = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="JSON key or table column of the first stage's score; by default score."),
]
FirstStageShare = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="With --combine weighted: the first stage's share, from 0 to 1; by default 0.2."),
]
Normalize = Annotated[
    _Normal | None,
    typer.Option(
        help="With --combine weighted: normalize each list of scores to mean 0 and deviation 1 (zscore, the default) "
        "or to 0 to 1 (minmax)."
    ),
]
RrfK = Annotated[float | None, typer.Option(min=0, help="With --combine rrf: the constant k; by default 60.")]
LowerIsBetter = Annotated[
    bool, typer.Option("--lower-is-better", help="With --combine: the first stage's scores are distances.")
]
MissingScore = Annotated[
    _Missing | None,
    typer.Option(
        help="With --combine: a document without a score of the first stage is an error (the default) or counts as "
        "the worst."
    ),
]


def combine_of(
    method: _Method | None,
    *,
    share: float | None,
    normalize: _Normal | None,
    k: float | None,
    field: str | None,
    lower_is_better: bool,
    missing: _Missing | None,
) -> Combine | None:
    """The `Combine` of the options; None where there is no ``--combine``.

    Raises:
        typer.BadParameter: an option has no effect.
        InputError: an option has an invalid value.
    """
    given = {
        "--first-stage-share": share,
        "--normalize": normalize,
        "--rrf-k": k,
        "--first-stage-field": field,
        "--lower-is-better": lower_is_better or None,
        "--missing-score": missing,
    }
    other = {
        None: given,
        _Method.rrf: ("--first-stage-share", "--normalize"),
        _Method.weighted: ("--rrf-k",),
    }[method]
    for option in other:
        if given[option] is not None:
            where = "without --combine" if method is None else f"with --combine {method.value}"
            raise typer.BadParameter(f"it has no effect {where}", param_hint=f"'{option}'")
    settings: dict[str, Any] = {
        "field": field,
        "lower_is_better": lower_is_better,
        "missing": missing and missing.value,
    }
    if method is _Method.rrf:
        settings["k"] = k
    else:
        settings.update(first_stage=share, normalize=normalize and normalize.value)
    if method is None:
        return None
    make = Combine.rrf if method is _Method.rrf else Combine.weighted
    return make(**{name: value for name, value in settings.items() if value is not None})


def first_stage_scores(documents: Sequence[Document], combine: Combine | None) -> list[float | None] | None:
    """The documents' scores of the first stage, with the numbers of tables, whose cells are texts; None where an empty
    cell or nothing is. None without ``combine``.

    Raises:
        InputError: a score is no finite number, or is missing and must not be.
    """
    if combine is None:
        return None
    scores = []
    for index, document in enumerate(documents):
        value = document.metadata.get(combine.field)
        name = f"document {index}" + ("" if document.id is None else f" (id {short(document.id)})")
        number = finite_number(_number(value) if isinstance(value, str) else value)
        missing = value is None or (isinstance(value, str) and not value.strip())
        if number is None and not missing:
            raise InputError(f"{name} has {short(value)} as {combine.field!r}; the score must be a finite number")
        if missing and combine.missing == "error":
            raise InputError(
                f"{name} has no {combine.field!r}, the score of the first stage; name its key or column with "
                "--first-stage-field, or count such documents as the worst with --missing-score worst"
            )
        scores.append(number)
    return scores


def _number(text: str) -> float | None:
    """The number that a cell of a table spells; None for other texts."""
    try:
        return None if "_" in text else float(text)  # Python reads 1_0 as 10
    except ValueError:
        return None
