"""`compare_models`: `rerank eval` from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_eval.figures.evaluate import METRICS, check_sets, evaluate, known_metrics
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_choice import choices_of
from rerank_eval.runs.run_models import Silent, run_models
from rerank_eval.sets.read import read_sets

__all__ = ["compare_models"]


def compare_models(
    models: Sequence[str],
    data: Sequence[str],
    *,
    metrics: Sequence[str] = METRICS,
    results: str | Path = ".rerank-eval",
    queries: int | None = None,
    top: int | None = None,
    budget_ms: float | None = None,
    price_per_hour: float | None = None,
    seed: int = 0,
    encoding: str | None = None,
    **options: Any,
) -> Evaluation:
    """Rank every set with every model, each in a process of its own, and compute all figures.

    Args:
        models, data: as ``--model`` and ``--data`` of the command.
        results: the folder that keeps every ranking; one that is there is not computed again.
        queries: draw this many queries of each set.
        top: most candidates of a query from a first stage.
        budget_ms: drop a model from a set after a few queries if it takes longer than this a query.
        price_per_hour: of this machine, for the cost of 1,000 queries.
        encoding: of files that are not UTF-8, where it cannot be detected.
        options: of `load`, for all models.

    Raises:
        InputError: data that cannot be read or measured, an unknown metric, or no model. A model that cannot be loaded
            is no error: its row has no figures, and ``row.run.reason`` says why.
    """
    choices = choices_of(models, options)
    metrics = known_metrics(metrics)
    sets = read_sets(data, top=top, queries=queries, seed=seed, encoding=encoding)
    check_sets(sets, metrics)
    runs = run_models(choices, sets, results=Path(results), budget_ms=budget_ms, watcher=Silent())
    return evaluate(sets, runs, metrics, price_per_hour=price_per_hour, seed=seed)
