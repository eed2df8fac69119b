"""Whether a judge's labels put the models in the same order as hand-made labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from statistics import fmean

from rerank_eval.figures.query_values import measured, values_of_scores
from rerank_eval.runs.model_run import ModelRun
from rerank_eval.sets.cleaning import fault_of
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["OrderEffect", "order_effect"]


@dataclass(frozen=True)
class OrderEffect:
    """Means of the models on the same queries under both kinds of labels.

    Attributes:
        queries: that are usable with both.
        by_hand, by_judge: the mean of each model.
        tau: Kendall's tau-b between both: 1 for the same order, -1 for the reverse; None where all means are equal.
        reversed: pairs of models, better first by hand, that the judge puts the other way round.
    """

    metric: str
    queries: int
    by_hand: Mapping[str, float]
    by_judge: Mapping[str, float]
    tau: float | None
    reversed: tuple[tuple[str, str], ...]

    def notes(self) -> list[str]:
        """A sentence about the order, and one for each reversed pair."""
        tau = "undefined" if self.tau is None else f"{self.tau:.2f}"
        where = f"{len(self.by_hand)} models over {self.queries:,} queries"
        lines = [
            f"order of the models by {self.metric}, hand-made against judged labels: Kendall's tau {tau} ({where})"
        ]
        for one, other in self.reversed:
            by_hand = f"{self.by_hand[one]:.3f} and {self.by_hand[other]:.3f}"
            by_judge = f"{self.by_judge[one]:.3f} and {self.by_judge[other]:.3f}"
            lines.append(f"the judge reverses {one} and {other}: {by_hand} by hand, {by_judge} judged")
        return lines


def order_effect(by_hand: JudgedSet, by_judge: JudgedSet, runs: Sequence[ModelRun], metric: str) -> OrderEffect | None:
    """Compare both kinds of labels; None with fewer than two models that ranked the whole set, or without a query.

    Args:
        by_hand: the set with hand-made labels, and queries without any.
        by_judge: some of its queries with the judge's labels.
        runs: of the set with hand-made labels.
        metric: a name of `rerank_core.measures`.

    Raises:
        MissingDependencyError: scipy or ir_measures is not installed.
    """
    judged = {query.id: query for query in by_judge.queries}
    retrieved = by_hand.order == "first-stage"
    both = [
        number
        for number, query in enumerate(by_hand.queries)
        if query.id in judged and fault_of(query, retrieved=retrieved) is None
    ]
    complete = [run for run in runs if run.set_digest == by_hand.digest and run.stopped is None]
    if len(complete) < 2 or not both:
        return None
    from scipy.stats import kendalltau

    versions = [
        replace(by_hand, queries=tuple(by_hand.queries[number] for number in both)),
        replace(by_hand, queries=tuple(judged[by_hand.queries[number].id] for number in both)),
    ]
    hand, judge = (
        {
            run.model: fmean(
                measured(values_of_scores(version, [run.queries[at].scores for at in both], [metric])[metric])
            )
            for run in complete
        }
        for version in versions
    )
    tau = float(kendalltau([*hand.values()], [*judge.values()]).statistic)
    swapped = tuple(
        (one, other) for one, other in permutations(hand, 2) if hand[one] > hand[other] and judge[one] < judge[other]
    )
    return OrderEffect(metric, len(both), hand, judge, None if math.isnan(tau) else tau, swapped)
