"""Quality by depth: only the best of the first stage are re-ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from rerank_core import InputError
from rerank_eval.figures.orders import first_stage_order, order_of, scores_of_order
from rerank_eval.figures.query_values import measured, values_of_scores
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["DEPTHS", "depth_curve", "depth_values"]

DEPTHS = (20, 50, 100)


def depth_curve(
    judged: JudgedSet, scores: Sequence[Sequence[float]], metric: str, depths: Sequence[int] = DEPTHS
) -> Mapping[int, float]:
    """The mean of a metric by the number of candidates that the model re-ranks; see `depth_values`."""
    values = depth_values(judged, scores, metric, depths)
    return {depth: fmean(measured(own)) for depth, own in values.items()}


def depth_values(
    judged: JudgedSet, scores: Sequence[Sequence[float]], metric: str, depths: Sequence[int] = DEPTHS
) -> Mapping[int, tuple[float | None, ...]]:
    """Each query's value of a metric by the number of candidates that the model re-ranks.

    The first ``depth`` candidates of the first stage are sorted by the model; the others keep their order below them.

    Args:
        scores: ``[queries][candidates]`` of a model, in the order of the set's candidates; empty where a call failed.

    Returns:
        0 (the first stage itself), the depths below the longest list of candidates, and that length, each with
        ``[queries]``: the value, None for a query that the metric leaves out.

    Raises:
        InputError: the set has no first stage.
    """
    order = first_stage_order(judged)
    if order is None:
        raise InputError(f"the set {judged.name!r} has no first stage, so there is no depth to cut it at")
    longest = max(len(query.candidates) for query in judged.queries)
    found = {}
    for depth in [0, *(depth for depth in sorted(depths) if depth < longest), longest]:
        cut: list[list[float]] = []
        for query, own in zip(judged.queries, scores, strict=True):
            positions, gains = order(query), query.gains
            top = positions[:depth]
            # A failed call leaves no order at all, as everywhere, but nothing fails where nothing is re-ranked.
            if depth and not own:
                cut.append([])
                continue
            best = order_of([own[at] for at in top], [gains[at] for at in top]) if depth else []
            cut.append(scores_of_order([*(top[at] for at in best), *positions[depth:]]))
        found[depth] = values_of_scores(judged, cut, [metric])[metric]
    return found
