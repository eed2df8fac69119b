"""Ranks the dev set through the serving pipeline and computes metrics with ir_measures.

Ties are broken against the model: documents with equal scores are put in the worst order. Otherwise a model that gives
all documents the same score would be measured on the order of the file, which often lists relevant documents first.

nDCG reads gains as the labels give them, fractions included. Every other metric reads integer grades: labels rounded,
halves up. This is one rule for the whole dev set and leaves integer labels unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from rerank_core import InputError, MissingDependencyError, Reranker
from rerank_core.errors import short
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow

__all__ = ["MEASURES", "DevSet", "Result", "parse_metrics"]

MEASURES = ("nDCG@10", "AP", "RR@10")

# ir_measures takes integer gains and loops over each value up to the highest, so larger ones would be slow.
_MOST = 100_000


@dataclass(frozen=True)
class Result:
    """Metrics of a model on a dev set.

    Attributes:
        values: mean of each metric.
        queries: for each metric its value for each query, in the order of the rows.
        scored: (raw score, grade) of all documents, for calibration.
    """

    values: Mapping[str, float]
    queries: Mapping[str, Sequence[float]]
    scored: Sequence[tuple[float, int]] = field(repr=False, default=())


def parse_metrics(names: Sequence[str]) -> list[Any]:
    """Metrics of ir_measures by name, such as ``nDCG@10``.

    Raises:
        MissingDependencyError: ir_measures is not installed.
        InputError: a name that it does not know.
    """
    if not names:
        return []
    try:
        import ir_measures
    except ModuleNotFoundError as error:
        raise MissingDependencyError("evaluation needs ir-measures: pip install 'rerank-trainers[eval]'") from error
    try:
        return [ir_measures.parse_measure(name) for name in names]
    except (ValueError, NameError, SyntaxError) as error:
        raise InputError(
            f"{list(names)!r}: measures are those of ir_measures, like nDCG@10, AP, RR@10; {error}"
        ) from error


class DevSet:
    """Queries with graded documents.

    Attributes:
        gains: for each document of each row, its label minus the label of an irrelevant document.
        grades: gains rounded to integers; above 0 is relevant.
        left_out: number of rows without a relevant or without an irrelevant document. They say nothing about an order
            and are not evaluated.

    Args:
        rows: rows with labels.
        lowest: label of an irrelevant document.
        scale: maps labels to gains; overrides ``lowest``.
        rank, world: number of this process, and number of processes that share the work; each gets the whole result.
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        measures: Sequence[str] = MEASURES,
        *,
        lowest: float = 0.0,
        scale: LabelScale | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        gain = (scale or LabelScale(lowest, lowest + 1)).gain
        self.measures = parse_metrics(measures)
        self.rank, self.world = rank, world
        self.rows: list[TrainingRow] = []
        self.gains: list[list[float]] = []
        self.grades: list[list[int]] = []
        self.left_out = 0
        for row in rows:
            if row.labels is None:
                raise InputError(f"{row.id}: a dev set needs labels, and this row ({short(row.query)}) has none")
            gains = [gain(label) for label in row.labels]
            grades = [math.floor(gain + 0.5) for gain in gains]
            if len({grade > 0 for grade in grades}) == 2:
                self.rows.append(row)
                self.gains.append(gains)
                self.grades.append(grades)
            else:
                self.left_out += 1
        if not self.rows:
            raise InputError(f"none of {len(rows)} dev rows has both a relevant and an irrelevant document")

    def evaluate(self, reranker: Reranker, **options: Any) -> Result:
        """Rank the documents of every query and compute the metrics; ``options`` go to `Reranker.rerank`."""
        mine = range(self.rank, len(self.rows), self.world)
        takes = any(option.name == "instruction" for option in reranker.spec.options)
        scored: dict[int, list[float]] = {}
        for at in mine:
            row = self.rows[at]
            instruction = {"instruction": row.instruction} if takes and row.instruction is not None else {}
            ranking = reranker.rerank(row.query, row.texts, activation="none", **instruction, **options)
            scored[at] = ranking.scores()
        if self.world > 1:
            from accelerate.utils import gather_object

            scored = {at: scores for some in gather_object([scored]) for at, scores in some.items()}
        return self.metrics([scored[at] for at in range(len(self.rows))])

    def metrics(self, scores: Sequence[Sequence[float]]) -> Result:
        """Compute the metrics from raw scores, one list per row."""
        import ir_measures

        run = []
        for at, (gains, own) in enumerate(zip(self.gains, scores, strict=True)):
            worst = sorted(range(len(own)), key=lambda doc: (-own[doc], gains[doc]))
            run += [ir_measures.ScoredDoc(str(at), str(doc), float(-position)) for position, doc in enumerate(worst)]
        queries: dict[str, list[float]] = {str(measure): [0.0] * len(self.rows) for measure in self.measures}
        for measures, levels in self._judged():
            qrels = [
                ir_measures.Qrel(str(at), str(doc), level)
                for at, row in enumerate(levels)
                for doc, level in enumerate(row)
            ]
            for one in ir_measures.iter_calc(measures, qrels, run):
                queries[str(one.measure)][int(one.query_id)] = one.value
        values = {name: sum(per_query) / len(per_query) for name, per_query in queries.items()}
        pairs = [
            pair for own, grades in zip(scores, self.grades, strict=True) for pair in zip(own, grades, strict=True)
        ]
        return Result(values, queries, pairs)

    def _judged(self) -> list[tuple[list[Any], list[list[int]]]]:
        """The metrics, each group with the integer grades that it reads."""
        linear = [one for one in self.measures if one.NAME == "nDCG" and set(one.params) <= {"cutoff", "judged_only"}]
        if self.gains == self.grades or not linear:
            return [(self.measures, self.grades)]
        others = [one for one in self.measures if one not in linear]
        return [(linear, _whole(self.gains)), *([(others, self.grades)] if others else [])]


def _whole(gains: Sequence[Sequence[float]]) -> list[list[int]]:
    """Gains times one factor, which does not change nDCG: the smallest that makes them integers, or else the largest
    that is quick to compute."""
    flat = {gain for row in gains for gain in row}
    common = math.lcm(*(Fraction(gain).limit_denominator(_MOST).denominator for gain in flat))
    ceiling = _MOST / max(flat)
    factor: float = common if common <= ceiling else ceiling
    return [[round(gain * factor) for gain in row] for row in gains]
