"""How many candidates of the first stage the choice should re-rank."""

from __future__ import annotations

from statistics import fmean

from rerank_core.measures import Interval, interval_over_sets
from rerank_eval.advice.advice import Setting
from rerank_eval.advice.contenders import Contender, differences_of
from rerank_eval.figures.depth import DEPTHS, depth_values
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.figures.orders import first_stage_order
from rerank_eval.figures.query_values import measured

__all__ = ["candidates_setting", "depth_within"]


def candidates_setting(evaluation: Evaluation, choice: Contender, margin: float) -> Setting | None:
    """The smallest depth that is as good as the best one: its loss is below the margin at the interval's lower bound.

    None where a set has no first stage, or no more candidates than the smallest depth.
    """
    values = _values_by_depth(evaluation, choice)
    if values is None or len(values) < 2:
        return None
    means = {depth: fmean(map(fmean, by_set)) for depth, by_set in values.items()}
    best = max(means, key=lambda depth: (means[depth], -depth))
    losses = {
        depth: interval_over_sets([differences_of(*both) for both in zip(own, values[best], strict=True)])
        for depth, own in values.items()
        if depth < best
    }
    depth = next((depth for depth, loss in losses.items() if loss.low > -margin), best)
    every, metric = max(values), evaluation.metrics[0]
    mean, whole = means[depth], means[every]
    if depth == every:
        shown = ", ".join(f"{own:.3f} at {cut}" for cut, own in means.items())
        text = f"re-rank all {every} candidates: no smaller number is shown to be as good ({metric} {shown})"
        return Setting("candidates", str(every), True, text)
    share = depth / max(_mean_candidates(evaluation), depth)
    text = (
        f"re-rank the best {depth} candidates of the first stage: {metric} {mean:.3f}, and {whole:.3f} with all "
        f"{every}, in about {share:.0%} of the time"
    )
    if depth != best:
        text += f"; the loss to the best {best} is {_signed(losses[depth])}"
    return Setting("candidates", str(depth), True, text)


def depth_within(
    evaluation: Evaluation, slow: Contender, budget_ms: float, above: float
) -> tuple[int, float] | tuple[None, None]:
    """The largest depth that a model over the budget could re-rank in it, and its mean there, if above a mean."""
    values = _values_by_depth(evaluation, slow)
    for depth in sorted(values or {}, reverse=True):
        mean = fmean(map(fmean, values[depth])) if values else 0.0
        if slow.median_ms * depth / _mean_candidates(evaluation) <= budget_ms and mean > above:
            return depth, mean
    return None, None


def _values_by_depth(evaluation: Evaluation, model: Contender) -> dict[int, list[list[float]]] | None:
    """``[sets][queries]`` by depth, for the depths below the longest list and for that one."""
    if any(first_stage_order(judged) is None for judged in evaluation.sets):
        return None
    longest = max(len(query.candidates) for judged in evaluation.sets for query in judged.queries)
    by_set = []
    for judged in evaluation.sets:
        run = model.rows[judged.name].run
        if run is None:
            return None
        by_set.append(depth_values(judged, [query.scores for query in run.queries], evaluation.metrics[0]))
    # A set with shorter lists is re-ranked whole at the larger depths.
    return {
        depth: [measured(own.get(depth, own[max(own)])) for own in by_set]
        for depth in [*(depth for depth in DEPTHS if depth < longest), longest]
    }


def _mean_candidates(evaluation: Evaluation) -> float:
    return fmean(len(query.candidates) for judged in evaluation.sets for query in judged.queries)


def _signed(figure: Interval) -> str:
    return f"{figure.mean:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"
