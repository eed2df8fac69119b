"""Ranks the dev set through the serving pipeline and computes metrics with ir_measures.

Ties are broken against the model: documents with equal scores are put in the worst order. Otherwise a model that gives
all documents the same score would be measured on the order of the file, which often lists relevant documents first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rerank_core import InputError, Reranker
from rerank_core.errors import short
from rerank_core.measures import measure_orders, parse_metrics, worst_order
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.evaluation.result import Result

__all__ = ["MEASURES", "DevSet"]

MEASURES = ("nDCG@10", "AP", "RR@10")


class DevSet:
    """Queries with graded documents.

    Attributes:
        gains: for each document of each row, its label minus the label of an irrelevant document.
        grades: gains rounded to integers; above 0 is relevant.
        left_out: number of rows without a relevant or without an irrelevant document. They say nothing about an order
            and are not evaluated.
        rank, world: number of this process, and number of processes that share the work; each gets the whole result.

    Args:
        rows: rows with labels.
        lowest: label of an irrelevant document.
        scale: maps labels to gains; overrides ``lowest``.
    """

    def __init__(
        self,
        rows: Sequence[TrainingRow],
        measures: Sequence[str] = MEASURES,
        *,
        lowest: float = 0.0,
        scale: LabelScale | None = None,
    ) -> None:
        gain = (scale or LabelScale(lowest, lowest + 1)).gain
        self.measures = parse_metrics(measures)
        self.rank, self.world = 0, 1
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
            raise InputError(
                f"none of {len(rows)} dev rows has both a relevant and an irrelevant document, which a ranking of its "
                "documents needs: add irrelevant ones (`rerank train mine`), or search a corpus, as data.eval: {NAME: "
                "{queries: FILE, corpus: FILE}}"
            )

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
        gains = [dict(enumerate(one)) for one in self.gains]
        orders = [worst_order(dict(enumerate(own)), one) for own, one in zip(scores, gains, strict=True)]
        queries = measure_orders(self.measures, gains, orders)
        values = {name: sum(per_query) / len(per_query) for name, per_query in queries.items()}
        pairs = [
            pair for own, grades in zip(scores, self.grades, strict=True) for pair in zip(own, grades, strict=True)
        ]
        return Result(values, queries, pairs)
