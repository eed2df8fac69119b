"""What holds of all rows together: whether their labels, or a teacher's scores, tell any document from another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.objectives.required_data import Needs

__all__ = ["TrainingSignal", "ValueRange"]

_MINE = "`rerank train mine FILES --out mined.jsonl` finds irrelevant ones (hard negatives)"


@dataclass
class ValueRange:
    """From the lowest to the highest of the numbers that were seen.

    Attributes:
        rows: that bring such numbers.
        apart: rows of which two documents differ in theirs.
    """

    low: float = math.inf
    high: float = -math.inf
    rows: int = 0
    apart: int = 0

    def add(self, values: Sequence[float]) -> None:
        """The numbers of a row's documents."""
        low, high = min(values), max(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.rows += 1
        self.apart += low < high

    @property
    def constant(self) -> bool:
        """Whether all that were seen are one number."""
        return self.low == self.high


@dataclass
class TrainingSignal:
    """What rows say, row by row.

    Attributes:
        scale: of the labels, by what they are worth; None takes them as they are.
        rows: how many were added.
    """

    scale: LabelScale | None = None
    rows: int = 0
    labels: ValueRange = field(default_factory=ValueRange)
    scores: ValueRange = field(default_factory=ValueRange)

    def add(self, row: TrainingRow) -> None:
        """One more row; its labels lie in the scale."""
        self.rows += 1
        if row.labels is not None:
            self.labels.add(row.labels if self.scale is None else self.scale.apply(row.labels))
        if row.scores is not None:
            self.scores.add(row.scores)

    def why_no_signal(self, needs: Needs, group_size: int = 0) -> str | None:
        """Why an objective with such needs could learn nothing from the rows; None where it could."""
        found = self._lack_of_labels(needs.docs, group_size) if needs.labels else None
        if found is None and needs.scores:
            found = self._lack_of_scores(needs.docs)
        return found

    def _lack_of_labels(self, docs: int, group_size: int) -> str | None:
        if self.labels.rows and self.labels.constant:
            relevant = self.labels.low > (0 if self.scale is None else self.scale.floor)
            what = f"all labels are worth the same ({self.labels.low:g}): every document is"
            if relevant:
                return f"{what} relevant, so that the same score for all is the best answer. {_MINE}"
            return (
                f"{what} irrelevant, so that the same score for all is the best answer. Look at the labels, at "
                "data.label_range and at data.label_map"
            )
        if docs > 1 and self.labels.rows and not self.labels.apart:
            return (
                "no row has documents of different labels, and the objective compares the documents of a query. Use an "
                f"objective that reads each document alone (bce), or bring both together: {_MINE}"
            )
        if group_size == 1 and self.labels.apart:
            return (
                "data.group_size is 1, so that of a query with a relevant document no irrelevant one is ever seen; set "
                "it to at least 2, or to 0 for all documents"
            )
        return None

    def _lack_of_scores(self, docs: int) -> str | None:
        if self.scores.rows and self.scores.constant:
            return (
                f"all scores of the teacher are {self.scores.low:g}, which says nothing; `rerank train label FILES "
                "--model TEACHER --out OUT` writes others"
            )
        if docs > 1 and self.scores.rows and not self.scores.apart:
            return (
                "in no row do the teacher's scores differ, and the objective compares the documents of a query; bring "
                "several documents to a row"
            )
        return None
