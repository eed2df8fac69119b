"""Whether the labels or teacher scores of all rows together distinguish documents, so that training can learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.objectives.required_data import Needs

__all__ = ["TrainingSignal", "ValueRange"]

_MINE = "`rerank train mine FILES --out mined.jsonl` finds irrelevant documents (hard negatives)"


@dataclass
class ValueRange:
    """The range of the labels, or of the teacher scores, of the rows added so far.

    Attributes:
        low, high: the lowest and the highest value.
        rows: number of rows with such values.
        varied_rows: number of rows whose documents have different values.
        gaps: sum over the rows of the highest value less the lowest.
    """

    low: float = math.inf
    high: float = -math.inf
    rows: int = 0
    varied_rows: int = 0
    gaps: float = 0.0

    def add(self, values: Sequence[float]) -> None:
        """Add the values of a row's documents."""
        low, high = min(values), max(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.rows += 1
        self.varied_rows += low < high
        self.gaps += high - low

    @property
    def constant(self) -> bool:
        """Whether all values are equal."""
        return self.low == self.high


@dataclass
class TrainingSignal:
    """Ranges of the labels and teacher scores of the rows added so far.

    Attributes:
        scale: scale that maps labels to [0, 1]; None uses labels as they are.
        rows: number of rows added.
    """

    scale: LabelScale | None = None
    rows: int = 0
    labels: ValueRange = field(default_factory=ValueRange)
    scores: ValueRange = field(default_factory=ValueRange)

    def add(self, row: TrainingRow) -> None:
        """Add a row whose labels lie in the scale."""
        self.rows += 1
        if row.labels is not None:
            self.labels.add(row.labels if self.scale is None else self.scale.apply(row.labels))
        if row.scores is not None:
            self.scores.add(row.scores)

    def why_no_signal(self, needs: Needs, group_size: int = 0, together: int = 0) -> str | None:
        """Why an objective with these needs cannot learn from the rows; None if it can.

        Args:
            group_size: documents of a query in a step; 0 for all.
            together: queries in the largest step; 0 for any number.
        """
        # If documents of other rows are negatives, relevant documents alone, and groups of one, are enough.
        floor = 0 if self.scale is None else self.scale.floor
        suffices = needs.other_rows and self.labels.high > floor
        reason = self._label_problem(needs.docs, group_size) if needs.labels and not suffices else None
        if reason is None and needs.scores:
            reason = self._score_problem(needs.docs)
        if reason is None and needs.step and needs.docs == 1 and together == 1:
            reason = self._alone_problem(needs, group_size)
        return reason

    def _alone_problem(self, needs: Needs, group_size: int) -> str | None:
        values, what = (self.labels, "labels") if needs.labels else (self.scores, "scores")
        # A teacher's vectors say something of a query and a single document.
        if not (needs.labels or needs.scores) or (values.varied_rows and group_size != 1):
            return None
        return (
            f"each step has one query, and in no step does it have documents with different {what}, so an objective "
            "that compares the texts of a step has nothing to compare: its loss is always 0. Set train.batch_size to "
            "at least 2 (with data.same_source each source needs as many rows), or add negatives and set "
            f"data.group_size to at least 2: {_MINE}"
        )

    def _label_problem(self, docs: int, group_size: int) -> str | None:
        if self.labels.rows and self.labels.constant:
            relevant = self.labels.low > (0 if self.scale is None else self.scale.floor)
            what = f"all labels have the same value ({self.labels.low:g}): every document is"
            if relevant:
                return f"{what} relevant, so a model learns to give all the same score. {_MINE}"
            return (
                f"{what} irrelevant, so a model learns to give all the same score. Check the labels, "
                "data.label_range and data.label_map"
            )
        if docs > 1 and self.labels.rows and not self.labels.varied_rows:
            return (
                "no row has documents with different labels, and the objective compares the documents of a query. Use "
                f"an objective that reads each document separately (bce), or add negatives: {_MINE}"
            )
        if group_size == 1 and self.labels.varied_rows:
            return (
                "data.group_size is 1, so training never uses an irrelevant document of a query that has a relevant "
                "one; set it to at least 2, or to 0 for all documents"
            )
        return None

    def _score_problem(self, docs: int) -> str | None:
        if self.scores.rows and self.scores.constant:
            return (
                f"all scores of the teacher are {self.scores.low:g}, so there is nothing to learn; `rerank train "
                "label FILES --model TEACHER --out OUT` writes new scores"
            )
        if docs > 1 and self.scores.rows and not self.scores.varied_rows:
            return (
                "in no row do the teacher's scores differ, and the objective compares the documents of a query; give "
                "rows several documents"
            )
        return None
