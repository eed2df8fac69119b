"""Where models disagree, and where re-ranking did harm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from rerank_eval.figures.evaluation import Row
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["Harm", "disagreement", "queries_made_worse"]


@dataclass(frozen=True, slots=True)
class Harm:
    """A query that a model ranks worse than the first stage does.

    Attributes:
        before, after: the metric's values of the first stage and of the model.
    """

    query: str
    before: float
    after: float


def queries_made_worse(judged: JudgedSet, first_stage: Row, model: Row, metric: str) -> list[Harm]:
    """The queries for which a model's value is below that of the first stage, the largest loss first."""
    pairs = zip(judged.queries, first_stage.per_query[metric], model.per_query[metric], strict=True)
    worse = [
        Harm(query.id, before, after)
        for query, before, after in pairs
        if before is not None and after is not None and after < before
    ]
    return sorted(worse, key=lambda harm: harm.after - harm.before)


def disagreement(judged: JudgedSet, scores: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, float]:
    """How much models disagree about each query: 0 where all have one order, 1 where two have opposite ones.

    For each pair of models ``(1 - tau) / 2`` with Vigna's weighted tau (2015), in which the top of the order counts
    most; then the mean over pairs.

    Args:
        scores: for each model ``[queries][candidates]``; a model counts only for the queries that it scored.

    Returns:
        by the query's id, the largest first; queries with fewer than two models or two candidates are left out.
    """
    from scipy.stats import weightedtau

    found: dict[str, float] = {}
    for number, query in enumerate(judged.queries):
        own = [of_model[number] for of_model in scores.values() if number < len(of_model) and of_model[number]]
        if len(own) < 2 or len(query.candidates) < 2:
            continue
        taus = [float(weightedtau(first, second).statistic) for first, second in combinations(own, 2)]
        # Where a model gives all candidates one score, no order is there to agree with.
        found[query.id] = fmean((1 - (0.0 if math.isnan(tau) else tau)) / 2 for tau in taus)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
