"""Comparisons of the rows of a set: models with each other, and the first stage with each."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.measures import compare as compare_all
from rerank_eval.figures.evaluation import Comparison, Row
from rerank_eval.figures.query_values import measured

__all__ = ["compare"]


def compare(rows: Sequence[Row], metric: str, *, seed: int = 0) -> list[Comparison]:
    """Compare each pair of models, and the first stage with each model, on the queries of one set.

    Rows without figures are left out, and so are floors and the ceiling.
    """
    own = [row for row in rows if row.figures and row.kind in ("model", "first stage")]
    values = {row.name: measured(row.per_query[metric]) for row in sorted(own, key=lambda row: row.kind == "model")}
    return [
        Comparison(own[0].set, metric, one.first, one.second, one.difference, one.p, one.adjusted, one.more_queries)
        for one in compare_all(values, seed=seed)
    ]
