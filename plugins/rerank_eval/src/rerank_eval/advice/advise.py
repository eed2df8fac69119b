"""`advise`: from an evaluation to an `Advice`."""

from __future__ import annotations

from dataclasses import replace

from rerank_eval.advice.advice import Advice, Setting, TooSlow, Versus
from rerank_eval.advice.choosing import choose, versus
from rerank_eval.advice.contenders import Contender, Pair, contenders_of, pairs_of
from rerank_eval.advice.depths import candidates_setting, depth_within
from rerank_eval.advice.fusing import best_fusions
from rerank_eval.advice.sentences import sentences_of
from rerank_eval.advice.settings import settings_of
from rerank_eval.figures.evaluation import Evaluation

__all__ = ["MARGIN", "advise"]

MARGIN = 0.01
"""A smaller difference of the means of a metric counts as equal quality."""


def advise(evaluation: Evaluation, *, budget_ms: float | None = None, margin: float = MARGIN) -> Advice:
    """Which model to use; the command (``--recommend``) and the report show it.

    The rule, by the first metric, with the mean over sets:

    1. Models whose median time of a query is above the budget on any set are left out. The first stage takes no time.
    2. The model with the highest mean is the best. A clearly faster one (80 % of its time or less) is chosen instead
       where its mean is lower by at most ``margin``, unless it is shown to be worse and may be worse by more than
       ``margin``. Of several the fastest is chosen. If that is the first stage, re-ranking is not recommended.
    3. The choice is settled where it is shown, against each other model within the budget, to be better (interval of
       95 % above 0, and p < 0.05 after Holm's correction) or at least as good (a loss of ``margin`` or more has
       p < 0.025 in a one-sided paired t-test, after Bonferroni's correction).

    Args:
        budget_ms: the longest median time of a query.
        margin: in the unit of the metric.
    """
    contenders = contenders_of(evaluation)
    pairs = pairs_of(evaluation, contenders)
    slow = [one for one in contenders if budget_ms is not None and one.median_ms > budget_ms]
    fitting = [one for one in contenders if one not in slow]
    queries = max((len(one.values) for one in contenders), default=0)
    choice = choose(fitting, pairs, margin)
    advice = Advice(evaluation.metrics[0], queries, budget_ms, margin)
    if choice is not None:
        others = sorted((one for one in fitting if one is not choice), key=lambda one: -one.mean)
        against = [versus(choice, one, pairs[choice.name, one.name], margin, len(others)) for one in others]
        advice = replace(
            advice,
            choice=choice.name,
            kind=choice.kind,
            mean=choice.mean,
            median_ms=choice.median_ms,
            settled=all(one.verdict != "open" for one in against),
            more_queries=_most(against),
            versus=tuple(against),
            settings=_settings(evaluation, choice, contenders, pairs, margin),
            fusions=tuple(best_fusions(evaluation, fitting, budget_ms)),
        )
    dropped, missing = _without_figures(evaluation, contenders)
    too_slow = [_too_slow(evaluation, one, choice, pairs, budget_ms) for one in slow]
    advice = replace(advice, too_slow=(*too_slow, *dropped), missing=missing)
    return replace(advice, sentences=tuple(sentences_of(advice, evaluation)))


def _most(against: list[Versus]) -> int | None:
    needed = [one.more_queries for one in against]
    return None if None in needed else max((one for one in needed if one is not None), default=0)


def _settings(
    evaluation: Evaluation,
    choice: Contender,
    contenders: list[Contender],
    pairs: dict[tuple[str, str], Pair],
    margin: float,
) -> tuple[Setting, ...]:
    if choice.kind != "model":
        return ()
    candidates = candidates_setting(evaluation, choice, margin)
    return (*([candidates] if candidates else []), *settings_of(choice, contenders, pairs))


def _too_slow(
    evaluation: Evaluation,
    slow: Contender,
    choice: Contender | None,
    pairs: dict[tuple[str, str], Pair],
    budget_ms: float | None,
) -> TooSlow:
    found = TooSlow(slow.name, slow.median_ms)
    if choice is None or budget_ms is None:
        return found
    depth, mean = depth_within(evaluation, slow, budget_ms, choice.mean)
    return replace(found, difference=pairs[slow.name, choice.name].difference, depth=depth, mean_at_depth=mean)


def _without_figures(
    evaluation: Evaluation, contenders: list[Contender]
) -> tuple[list[TooSlow], tuple[tuple[str, str], ...]]:
    """The models that were dropped for the budget, and the others without figures on some set."""
    known = {one.name for one in contenders}
    dropped, missing = [], []
    for name in evaluation.models:
        if name in known:
            continue
        rows = [row for row in evaluation.rows if row.kind == "model" and row.name == name]
        stopped = [row.run for row in rows if row.run is not None and row.run.stopped]
        if any(run.stopped == "budget" for run in stopped):
            dropped.append(TooSlow(name, None))
        else:
            reason = next((run.reason for run in stopped if run.reason), "it did not rank every set")
            missing.append((name, reason))
    return dropped, tuple(missing)
