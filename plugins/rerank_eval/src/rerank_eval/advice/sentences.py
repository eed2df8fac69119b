"""An `Advice` in words."""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.measures import Interval
from rerank_eval.advice.advice import Advice, FusionAdvice, TooSlow, Versus
from rerank_eval.figures.evaluation import Evaluation

__all__ = ["sentences_of"]


def sentences_of(advice: Advice, evaluation: Evaluation) -> list[str]:
    """The advice, one sentence or two for each of its parts, the choice first."""
    lines = [_choice(advice), _how_sure(advice)]
    lines += [_versus(one, advice) for one in advice.versus]
    lines += [_too_slow(one, advice) for one in advice.too_slow]
    lines += [f"{name} has no figures: {reason.removesuffix('.')}." for name, reason in advice.missing]
    lines += [f"{setting.name} = {setting.value}: {setting.text}." for setting in advice.settings]
    lines += _fusions(advice.fusions)
    return [line for line in (*lines, *_cautions(advice, evaluation)) if line]


def _choice(advice: Advice) -> str:
    within = "" if advice.budget_ms is None else f" within {advice.budget_ms:g} ms"
    if advice.choice is None:
        return f"No model can be recommended: none has figures on every set{within}."
    figure = f"{advice.metric} {advice.mean:.3f}"
    if advice.kind == "first stage":
        if not advice.versus:
            return f"Do not re-rank: no model has figures on every set{within}."
        return (
            f"Do not re-rank: no model{within} is better than the {advice.choice} ({figure}) by more than "
            f"{advice.margin:g}."
        )
    best = max(advice.versus, key=lambda one: -one.difference.mean, default=None)
    line = f"Use {advice.choice}: {figure}, {_ms(advice.median_ms)} ms a query"
    if best is not None and best.difference.mean < 0:
        return (
            f"{line}. {best.other} is better by {-best.difference.mean:.3f}, which is at most {advice.margin:g} and "
            f"counts as equal, and takes {_ms(best.median_ms)} ms."
        )
    return f"{line}, the highest mean of the {len(advice.versus) + 1}{within or ' that ran'}." if best else f"{line}."


def _how_sure(advice: Advice) -> str:
    if advice.choice is None:
        return ""
    if not advice.versus:
        return f"Nothing else was measured{_within(advice)}, so that there is nothing to compare it with."
    if advice.settled:
        return f"These {advice.queries:,} judged queries settle it."
    more = "no number of further queries is known to settle it, because the means are equal"
    if advice.more_queries is not None:
        more = f"about {advice.more_queries:,} more judged queries like these would settle it"
    return f"These {advice.queries:,} judged queries do not settle it; {more}."


def _versus(one: Versus, advice: Advice) -> str:
    figures = f"{_signed(one.difference)}, corrected p {one.p_corrected:.3g}"
    if one.verdict == "better":
        return f"It is better than {one.other}: {figures}."
    if one.verdict == "as good":
        loss = f"a loss of {advice.margin:g} or more has p {one.p_loss:.3g}"
        return f"It is at least as good as {one.other}: {_signed(one.difference)}, and {loss}."
    more = "" if one.more_queries is None else f", which about {one.more_queries:,} more judged queries would change"
    return f"It is not shown to be better than {one.other}, or at least as good: {figures}{more}."


def _too_slow(one: TooSlow, advice: Advice) -> str:
    took = "was dropped" if one.median_ms is None else f"takes {_ms(one.median_ms)} ms"
    line = f"{one.name} is over the budget of {advice.budget_ms:g} ms: it {took}" if advice.budget_ms else one.name
    if advice.budget_ms is None:
        return f"{one.name} was dropped for its time, and has no figures."
    if one.difference is not None:
        line += f"; its mean differs by {_signed(one.difference)}"
    if one.depth is not None and one.mean_at_depth is not None:
        line += (
            f". With the best {one.depth} candidates alone it would take about the budget or less, and have "
            f"{advice.metric} {one.mean_at_depth:.3f}: run it with --top {one.depth}"
        )
    return f"{line}."


def _fusions(fusions: Sequence[FusionAdvice]) -> list[str]:
    """Each fusion that beats the better one of the two models, and the other sets in one sentence."""
    lines = [
        f"On {one.set}, reciprocal rank fusion of {one.first} and {one.second} beats {one.better}: "
        f"{_signed(one.difference)}."
        for one in fusions
        if one.beats
    ]
    none = [one for one in fusions if not one.beats]
    if none:
        best = max(none, key=lambda one: one.difference.mean)
        where = f" on {best.set}" if len(none) > 1 else ""
        sets = _listed([one.set for one in none])
        where = f" on {best.set}" if len(none) > 1 else ""
        lines.append(
            f"On {sets}, no fusion of two models is shown to beat the better one; the best, of "
            f"{best.first} and {best.second}{where}, differs from {best.better} by {_signed(best.difference)}."
        )
    return lines


def _listed(names: Sequence[str]) -> str:
    """
    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _cautions(advice: Advice, evaluation: Evaluation) -> list[str]:
    """What makes the figures of the choice differ from its quality."""
    rows = [row for row in evaluation.rows if row.kind == advice.kind == "model" and row.name == advice.choice]
    failed = [
        f"Caution: {row.name} failed on {row.failed:,} queries of {row.set}, which count as 0."
        for row in rows
        if row.failed
    ]
    shares = [f"{row.judged:.0%} on {row.set}" for row in rows if row.judged is not None and row.judged < 1]
    if not shares:
        return failed
    unjudged = (
        f"Caution: not all documents that {advice.choice} ranks first are judged ({', '.join(shares)}), and the others "
        "count as not relevant; it may be better than it looks, and so may other models."
    )
    return [*failed, unjudged]


def _within(advice: Advice) -> str:
    return "" if advice.budget_ms is None else f" within {advice.budget_ms:g} ms"


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _signed(figure: Interval) -> str:
    """
    >>> _signed(Interval(-0.0001, -0.02, 0.02))
    '+0.000 [-0.020, +0.020]'
    """
    # Adding 0.0 makes a negative zero positive.
    mean, low, high = (round(one, 3) + 0.0 for one in (figure.mean, figure.low, figure.high))
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
