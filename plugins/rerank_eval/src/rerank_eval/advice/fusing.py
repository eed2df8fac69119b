"""Whether rank fusion of two models beats the better one of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from rerank_eval.advice.advice import FusionAdvice
from rerank_eval.advice.contenders import Contender
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.figures.fusion import fuse_pairs

__all__ = ["best_fusions"]

_LEVEL = 0.95


def best_fusions(
    evaluation: Evaluation, contenders: Sequence[Contender], budget_ms: float | None
) -> list[FusionAdvice]:
    """The best fusion of two models on each set; both together must be within the budget.

    Runs of one model with other options are not fused, because they err alike.

    The intervals are corrected for the number of fusions by Bonferroni's rule, since the best of many is reported.
    """
    runnable = [one for one in contenders if one.kind == "model" and all(row.run for row in one.rows.values())]
    pairs = [
        pair
        for pair in combinations(runnable, 2)
        if _source(pair[0]) != _source(pair[1])
        and (budget_ms is None or pair[0].median_ms + pair[1].median_ms <= budget_ms)
    ]
    level = 1 - (1 - _LEVEL) / max(1, len(pairs) * len(evaluation.sets))
    metric, found = evaluation.metrics[0], []
    for judged in evaluation.sets:
        fusions = []
        for pair in pairs:
            runs = {one.name: one.rows[judged.name].run for one in pair}
            scores = {name: [query.scores for query in run.queries] for name, run in runs.items() if run is not None}
            fusions += fuse_pairs(judged, scores, metric, level=level)
        if not fusions:
            continue
        best = max(fusions, key=lambda one: one.figure.mean)
        single = max(one.rows[judged.name].figures[metric].mean for one in runnable)
        found.append(
            FusionAdvice(
                judged.name,
                best.first,
                best.second,
                best.better,
                best.difference,
                beats=best.difference.low > 0 and best.figure.mean > single,
            )
        )
    return found


def _source(model: Contender) -> str | None:
    return next((row.run.source for row in model.rows.values() if row.run is not None), None)
