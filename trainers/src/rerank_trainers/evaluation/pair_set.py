"""A dev set of text pairs with a score (semantic textual similarity): Spearman's rank correlation of the scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rerank_core import InputError, Reranker
from rerank_core.errors import short
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.evaluation.result import Result
from rerank_trainers.teachers.scores import ScoreRequest, score_requests

__all__ = ["SPEARMAN", "PairSet", "spearman"]

SPEARMAN = "Spearman"


class PairSet:
    """Text pairs with a score of any range: each document of a row is a pair with its query.

    Attributes:
        left_out: always 0; every pair counts.
        rank, world: see `DevSet`.

    Raises:
        InputError: a row without labels, or pairs whose scores are all equal.
    """

    left_out = 0

    def __init__(self, rows: Sequence[TrainingRow]) -> None:
        self.rows, self.rank, self.world = rows, 0, 1
        self.measures = [SPEARMAN]
        self.truth: list[float] = []
        for row in rows:
            if row.labels is None:
                raise InputError(f"{row.id}: similarity pairs need scores, and this row ({short(row.query)}) has none")
            self.truth += row.labels
        if len(set(self.truth)) < 2:
            raise InputError(f"the {len(self.truth)} pairs have one score, so they have no order to compare")

    def evaluate(self, reranker: Reranker) -> Result:
        """Score every pair and compute the correlation."""
        mine = range(self.rank, len(self.rows), self.world)
        requests = [
            ScoreRequest(row.query, row.texts, row.instruction, str(row.id)) for row in (self.rows[at] for at in mine)
        ]
        results = score_requests(requests, reranker)
        scored = {at: list(result.scores) for at, result in zip(mine, results, strict=True)}
        if self.world > 1:
            from accelerate.utils import gather_object

            scored = {at: scores for some in gather_object([scored]) for at, scores in some.items()}
        return self.metrics([score for at in range(len(self.rows)) for score in scored[at]])

    def metrics(self, scores: Sequence[float]) -> Result:
        """The correlation of the scores of all pairs with theirs."""
        return Result({SPEARMAN: spearman(self.truth, scores)}, {})


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's rank correlation; equal values share the mean of their ranks. 0 where all values are equal, as a model
    that gives every pair the same score says nothing.

    >>> spearman([1, 2, 3], [10, 40, 90]), spearman([1, 2, 3], [5, 5, 5])
    (1.0, 0.0)
    """
    one, other = (_ranks(np.asarray(values, dtype=np.float64)) for values in (left, right))
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one * one).sum() * (other * other).sum()))
    return float((one * other).sum()) / norm if norm else 0.0


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: npt.NDArray[np.float64] = ends - (counts - 1) / 2
    return means[inverse]
