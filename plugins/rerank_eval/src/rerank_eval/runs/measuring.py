"""Measures a loaded model: one query a call, as a service gets them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rerank_core import Ranking, Reranker, RerankError
from rerank_eval.runs.model_run import QueryRun

__all__ = ["query_run", "scores_of"]


def query_run(
    reranker: Reranker, query_id: str, query: str, documents: Sequence[str], instruction: str | None = None
) -> QueryRun:
    """Rank the documents of one query; an error of the call becomes the run's ``error``.

    Args:
        instruction: given to models that follow one.
    """
    takes = any(option.name == "instruction" for option in reranker.spec.options)
    options: Mapping[str, Any] = {"instruction": instruction} if takes and instruction is not None else {}
    start = time.perf_counter()
    try:
        ranking = reranker.rerank(query, documents, activation="none", **options)
    except Exception as error:  # noqa: BLE001 -- a model may fail in any way; the query counts as 0 and is shown
        seconds = time.perf_counter() - start
        text = str(error) if isinstance(error, RerankError) else f"{type(error).__name__}: {error}"
        return QueryRun(query_id, (), seconds, error=text)
    return _run_of(query_id, ranking, time.perf_counter() - start)


def scores_of(ranking: Ranking) -> list[float]:
    """``[documents]``: raw scores in the caller's order; of a cascade, whose scores of different layers cannot be
    compared, minus the rank."""
    scores = ranking.scores()
    if any(hit.stage for hit in ranking):
        for hit in ranking:
            scores[hit.index] = float(-hit.rank)
    return [float(score) for score in scores]


def _run_of(query_id: str, ranking: Ranking, seconds: float) -> QueryRun:
    hits = sorted(ranking, key=lambda hit: hit.index)
    return QueryRun(
        query_id,
        tuple(scores_of(ranking)),
        seconds,
        tokens=ranking.usage.tokens,
        truncated=tuple(hit.index for hit in hits if hit.truncated),
        query_truncated=ranking.query_truncated,
        passages={
            hit.index: (hit.best_passage.start, hit.best_passage.stop)
            for hit in hits
            if len(hit.passages) > 1 and hit.best_passage is not None
        },
        statistics={
            name: value
            for name, value in ranking.statistics.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        },
    )
