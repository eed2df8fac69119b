"""What an objective reads, and whether the rows bring it; asked before a model is loaded, and without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow

__all__ = ["DefaultObjective", "Needs", "ObjectiveInfo", "check_needs"]

# The option by which an objective that reads labels learns from a teacher's scores in their place.
_TAUGHT = {
    "bce": "teacher_space=logit",
    "lambda": "target=teacher",
    "listnet": "target=teacher",
    "margin_mse": "pairs=all",
    "mse": "teacher_space=logit",
    "ranknet": "target=teacher",
}
_LABEL = "`rerank train label FILES --model TEACHER --out OUT` writes a teacher's scores"
_ORDER = "`--set objective=ranknet --set objective.options.target=teacher`"


@dataclass(frozen=True, slots=True)
class Needs:
    """What the training rows must bring.

    Attributes:
        labels: what each document is worth.
        scores: a teacher's score of each document.
        docs: documents below which a group can only give a loss of 0.
        score_differences: it reads how far apart scores are, which ranks do not say.
    """

    labels: bool = False
    scores: bool = False
    docs: int = 1
    score_differences: bool = field(default=False, compare=False)

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.labels or other.labels,
            self.scores or other.scores,
            max(self.docs, other.docs),
            self.score_differences or other.score_differences,
        )


class ObjectiveInfo(Protocol):
    """What an objective says of itself before any row is read."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Needs: ...


@dataclass(frozen=True)
class DefaultObjective:
    """What training's default objective says of itself; the objective needs torch, which takes seconds to import."""

    name: str = "bce"
    needs: Needs = Needs(labels=True)


def check_needs(objective: ObjectiveInfo, rows: Sequence[TrainingRow], group_size: int = 0) -> None:
    """Refuse data that lacks what the objective reads.

    Raises:
        InputError: a row without labels or scores (the first is named), ranks where score differences are read, or
            groups of single documents where they are compared.
    """
    needs = objective.needs
    ranks = needs.score_differences
    for place, row in enumerate(rows):
        where = place if row.id is None else row.id
        if needs.labels and row.labels is None:
            raise InputError(
                f"the objective {objective.name!r} needs labels, and the row {where} has none. "
                + _without_labels(objective, row)
            )
        if needs.scores and row.scores is None:
            raise InputError(f"the objective {objective.name!r} needs scores, and the row {where} has none. {_LABEL}")
        ranks = ranks and row.scores is not None and _are_ranks(row.scores)
    if ranks and any(len(row.docs) > 1 for row in rows):
        raise InputError(
            f"the scores of all rows are ranks (-1, -2, ...), as a model that orders lists gives them, and "
            f"{objective.name!r} reads how far apart scores are, which ranks do not say. Learn from the order: {_ORDER}"
        )
    if needs.docs > 1 and all(len(row.docs) < needs.docs for row in rows):
        raise InputError(
            f"the objective {objective.name!r} compares documents of a query, and every row has a single one; "
            "use bce or mse, or group the rows by query"
        )
    if 0 < group_size < needs.docs:
        raise InputError(
            f"the objective {objective.name!r} compares documents of a query, and data.group_size is {group_size!r}; "
            f"it must be at least {needs.docs}"
        )


def _without_labels(objective: ObjectiveInfo, row: TrainingRow) -> str:
    """What to do about missing labels: learn from a teacher's scores, where they are or once they are written."""
    if row.scores is not None and len(row.docs) > 1 and _are_ranks(row.scores):
        return f"It has a teacher's order (-1, -2, ...); {_ORDER} learns from it"
    first = _LABEL if row.scores is None else "It has a teacher's scores"
    parts = re.split(r"[+* ]+", objective.name)
    option = next((_TAUGHT[part] for part in parts if part in _TAUGHT), None)
    if option is None:
        return f"{first}; `--set objective=kl` learns from them"
    if len(parts) == 1:
        return f"{first}; `--set objective.options.{option}` learns from them"
    return f"{first}; {option.replace('=', ': ')} among the options of an objective learns from them"


def _are_ranks(scores: Iterable[float]) -> bool:
    """Whether scores are minus the ranks 1, 2, ... in some order."""
    given = sorted(scores, reverse=True)
    return given == [float(-rank) for rank in range(1, len(given) + 1)]
