"""`judge_set`: a set with the labels of a judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rerank_core import InputError, RerankError
from rerank_eval.judging.agreement import Agreement, LabelledPair, agreement_of
from rerank_eval.judging.grading_prompt import HIGHEST
from rerank_eval.judging.judge import Judge, Pair, Verdict
from rerank_eval.judging.judge_facts import JudgeFacts
from rerank_eval.judging.kept_verdicts import KeptVerdicts
from rerank_eval.judging.order_effect import OrderEffect, order_effect
from rerank_eval.judging.pool import narrowed, pooled
from rerank_eval.judging.relevance_cut import grades_of_scores
from rerank_eval.runs.model_run import ModelRun
from rerank_eval.sets.judged_set import JudgedSet
from rerank_eval.sets.usable import usable

__all__ = ["DEPTH", "Judgement", "Watch", "judge_set"]

Watch: TypeAlias = Callable[[Iterable[tuple[int, Verdict]], int, int], Iterable[tuple[int, Verdict]]]

DEPTH = 20
# Labelled candidates outside the pool that the judge grades too, to be compared with the labels.
_LABELLED = 500


@dataclass(frozen=True)
class Judgement:
    """A set with a judge's labels.

    Attributes:
        set: the set; queries for which the judge found nothing relevant, or nothing else, are left out and counted.
        runs: the given runs, with the queries of the set.
        agreement, order: against hand-made labels, where the set had any.
    """

    set: JudgedSet
    runs: tuple[ModelRun, ...]
    facts: JudgeFacts
    agreement: Agreement | None
    order: OrderEffect | None


def judge_set(
    judged: JudgedSet,
    runs: Sequence[ModelRun],
    judge: Judge,
    kept: KeptVerdicts,
    *,
    depth: int = DEPTH,
    metric: str = "nDCG@10",
    watch: Watch | None = None,
) -> Judgement:
    """Label the pooled best candidates of all models.

    The judge's labels replace all others, because the scales differ; a candidate outside the pool has none.

    Args:
        judged: a set, read with ``need_labels=False``.
        runs: of all models; those of other sets are returned as they are.
        kept: each verdict is kept there when it is given, so that an interrupted run goes on.
        depth: the best candidates of each model that are pooled.
        metric: of the effect on the order of models.
        watch: wraps the verdicts that are asked for, to show progress: ``watch(verdicts, done, pairs)``.

    Raises:
        InputError: the judge or its scores cannot be used, or no query is usable with its labels.
        RerankError: the judge failed on every pair, or too often in a row.
    """
    if depth < 1:
        raise InputError(f"the depth of the pool is {depth!r}; it must be at least 1")
    pools = pooled(judged, runs, depth=depth, labelled=_LABELLED)
    places = [(number, at) for number, pool in enumerate(pools) for at in pool]
    pairs = [
        Pair(query.text, query.candidates[at].text, query.instruction)
        for query, pool in zip(judged.queries, pools, strict=True)
        for at in pool
    ]
    verdicts, known = _verdicts(pairs, judge, kept, watch)
    failures = [verdict.error for verdict in verdicts if verdict.error is not None]
    if failures and len(failures) == len(pairs):
        raise RerankError(f"the judge {judge.name!r} failed on all {len(pairs)} pairs; the first: {failures[0]}")
    labels = {place: judged.queries[place[0]].candidates[place[1]].gain for place in places}
    values = {at: verdict.value for at, verdict in zip(places, verdicts, strict=True) if verdict.value is not None}
    cut = None if judge.is_graded else grades_of_scores(values, labels, judge)
    grades = values if cut is None else cut.grades
    queries = tuple(
        replace(
            query,
            candidates=tuple(replace(one, gain=grades.get((number, at))) for at, one in enumerate(query.candidates)),
            others={},
        )
        for number, query in enumerate(judged.queries)
    )
    by_judge = usable(replace(judged, queries=queries))
    malformed = [verdict.malformed for verdict in verdicts if verdict.malformed is not None]
    facts = JudgeFacts(
        judge.name,
        depth,
        len(pairs),
        sum(label is not None for label in labels.values()),
        known,
        len(malformed),
        malformed[0] if malformed else None,
        len(failures),
        failures[0] if failures else None,
        sum(verdict.shortened for verdict in verdicts),
        Counter(grades.values()),
        None if cut is None else cut.cut,
        None if cut is None else cut.origin,
        any(_is_the_judge(run, judge) for run in runs),
    )
    agreement = _agreement(grades if cut is None else cut.held_out, labels, HIGHEST if judge.is_graded else 1)
    order = order_effect(judged, by_judge, runs, metric)
    notes = [*facts.notes(), *(agreement.notes() if agreement else ()), *(order.notes() if order else ())]
    by_judge = replace(by_judge, label_source=judge.name, label_notes=tuple(notes))
    return Judgement(by_judge, tuple(narrowed(runs, judged, by_judge)), facts, agreement, order)


def _is_the_judge(run: ModelRun, judge: Judge) -> bool:
    """Whether a model is the judge: the same weights, or the same name, also that of a chat model in an option."""
    return run.fingerprint == judge.identity or judge.name in {run.source, *map(str, run.options.values())}


def _verdicts(
    pairs: Sequence[Pair], judge: Judge, kept: KeptVerdicts, watch: Watch | None
) -> tuple[list[Verdict], int]:
    """The verdict of each pair, and how many were kept. A pair that occurs twice is asked for once."""
    verdicts = {pair: kept.get(judge.identity, pair) for pair in dict.fromkeys(pairs)}
    missing = [pair for pair, verdict in verdicts.items() if verdict is None]
    known = len(verdicts) - len(missing)
    asked: Iterable[tuple[int, Verdict]] = judge.verdicts(missing)
    for at, verdict in asked if watch is None else watch(asked, known, len(verdicts)):
        kept.add(judge.identity, missing[at], verdict)
        verdicts[missing[at]] = verdict
    return [verdicts[pair] or Verdict(None, error="no verdict") for pair in pairs], known


def _agreement(
    grades: Mapping[tuple[int, int], float], labels: Mapping[tuple[int, int], float | None], top: float
) -> Agreement | None:
    pairs = [
        LabelledPair(place[0], label, grades[place])
        for place, label in labels.items()
        if label is not None and place in grades
    ]
    given = [label for label in labels.values() if label is not None]
    return agreement_of(pairs, label_top=max(given, default=1.0) or 1.0, grade_top=top)
