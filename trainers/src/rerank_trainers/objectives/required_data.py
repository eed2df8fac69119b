"""The targets that an objective reads, and the check that rows have them, before a model is loaded; without torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow

__all__ = ["DefaultObjective", "Needs", "ObjectiveInfo", "check_needs"]

# The option with which an objective learns from a teacher's scores instead of labels.
_TEACHER_OPTIONS = {
    "bce": "teacher_space=logit",
    "cosent": "target=teacher",
    "lambda": "target=teacher",
    "listnet": "target=teacher",
    "margin_mse": "pairs=all",
    "mse": "teacher_space=logit",
    "ranknet": "target=teacher",
}
_LABEL_HINT = "`rerank train label FILES --model TEACHER --out OUT` writes a teacher's scores"
_ORDER_HINT = "`--set objective=ranknet --set objective.options.target=teacher`"


@dataclass(frozen=True, slots=True)
class Needs:
    """What an objective needs of the training rows.

    Attributes:
        labels: a label of each document.
        scores: a teacher's score of each document.
        docs: minimum number of documents of a query; with fewer the loss is always 0.
        score_differences: whether it reads differences of the teacher's scores, so that ranks are not enough.
        step: whether it compares the texts of the whole step, which takes a model that encodes query and document
            separately.
        vectors: whether it reads one vector per text, which takes an embedding model.
        teacher_vectors: a teacher's vector of each text.
        other_rows: whether documents of other rows are negatives, so that rows with relevant documents alone suffice.
        teacher_width: whether the model's vectors must be as wide as the teacher's, so that Matryoshka cannot cut them.
    """

    labels: bool = False
    scores: bool = False
    docs: int = 1
    score_differences: bool = field(default=False, compare=False)
    step: bool = False
    vectors: bool = False
    teacher_vectors: bool = False
    other_rows: bool = False
    teacher_width: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.labels or other.labels,
            self.scores or other.scores,
            max(self.docs, other.docs),
            self.score_differences or other.score_differences,
            self.step or other.step,
            self.vectors or other.vectors,
            self.teacher_vectors or other.teacher_vectors,
            # A part that reads labels and no other rows needs negatives in each row.
            all(part.other_rows for part in (self, other) if part.labels) and (self.labels or other.labels),
            self.teacher_width or other.teacher_width,
        )


class ObjectiveInfo(Protocol):
    """The properties of an objective that are needed before any row is read."""

    @property
    def name(self) -> str: ...
    @property
    def needs(self) -> Needs: ...


@dataclass(frozen=True)
class DefaultObjective:
    """The properties of the default objective, bce, without importing torch, which takes seconds."""

    name: str = "bce"
    needs: Needs = Needs(labels=True)


def check_needs(objective: ObjectiveInfo, rows: Sequence[TrainingRow], group_size: int = 0) -> None:
    """Refuse rows without the targets that the objective reads.

    Raises:
        InputError: a row without labels or scores (the first is named); ranks, if the objective reads score
            differences; or single documents, if it compares documents.
    """
    needs = objective.needs
    ranks = needs.score_differences
    for index, row in enumerate(rows):
        where = index if row.id is None else row.id
        if needs.labels and row.labels is None:
            raise InputError(
                f"the objective {objective.name!r} needs labels, and the row {where} has none. "
                + _label_advice(objective, row)
            )
        if needs.scores and row.scores is None:
            raise InputError(
                f"the objective {objective.name!r} needs scores, and the row {where} has none. {_LABEL_HINT}"
            )
        ranks = ranks and row.scores is not None and _are_ranks(row.scores)
    if ranks and any(len(row.docs) > 1 for row in rows):
        raise InputError(
            f"the scores of all rows are ranks (-1, -2, ...), as listwise models give them, and {objective.name!r} "
            f"reads differences of scores, which ranks do not have. Learn from the order: {_ORDER_HINT}"
        )
    if needs.docs > 1 and all(len(row.docs) < needs.docs for row in rows):
        remedy = "in_batch=all" if needs.step else "bce or mse"
        raise InputError(
            f"the objective {objective.name!r} compares documents of a query, and every row has a single document; "
            f"use {remedy}, or group the rows by query"
        )
    if 0 < group_size < needs.docs:
        raise InputError(
            f"the objective {objective.name!r} compares documents of a query, and data.group_size is {group_size!r}; "
            f"it must be at least {needs.docs}"
        )


def _label_advice(objective: ObjectiveInfo, row: TrainingRow) -> str:
    """The advice for missing labels: learn from a teacher's scores, and how to add them if there are none."""
    if row.scores is not None and len(row.docs) > 1 and _are_ranks(row.scores):
        return f"It has a teacher's order (-1, -2, ...); {_ORDER_HINT} learns from it"
    start = _LABEL_HINT if row.scores is None else "It has a teacher's scores"
    parts = re.split(r"[+* ]+", objective.name)
    option = next((_TEACHER_OPTIONS[part] for part in parts if part in _TEACHER_OPTIONS), None)
    if option is None:
        return f"{start}; `--set objective=kl` learns from them"
    if len(parts) == 1:
        return f"{start}; `--set objective.options.{option}` learns from them"
    return f"{start}; {option.replace('=', ': ')} among the options of an objective learns from them"


def _are_ranks(scores: Iterable[float]) -> bool:
    """Whether the scores are minus the ranks 1, 2, ... in some order."""
    ordered = sorted(scores, reverse=True)
    return ordered == [float(-rank) for rank in range(1, len(ordered) + 1)]
