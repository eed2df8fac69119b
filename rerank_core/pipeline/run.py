"""The one path every call takes: plan the rows, forward batch by batch, combine windows into documents.

All queries of a call share one plan. Rows are assembled batch by batch, so memory is bounded by the token budget
and not by the number of documents.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rerank_core.errors import InputError, PluginError, about, short
from rerank_core.index.index import Index, IndexPlan
from rerank_core.pipeline.outcomes import Outcome, Scored, finite
from rerank_core.planning.longdoc import LongDoc, combined
from rerank_core.planning.row_plan import Job, Plan, RowPlan, Rules
from rerank_core.progress import Progress, silent
from rerank_core.scorer import AnyScorer, ListRanker, Output, Resumable, Scorer, Stackable, TextScorer
from rerank_core.types import Passage, Usage

__all__ = ["run"]


def run(
    scorer: AnyScorer,
    jobs: Sequence[Job],
    rules: Rules,
    progress: Progress = silent,
    *,
    named: bool = False,
    apart: bool = False,
) -> list[Outcome]:
    """Score every document of every job. Outcomes are in the order of the jobs, to the first that failed.

    Args:
        named: the jobs are a caller's numbered requests, so an error of one of them begins with its number.
        apart: where a plan of several jobs fails, try each alone, so that those before the one at fault are scored.

    Raises:
        InputError: a query that leaves no room for a document.
        PluginError: a scorer that returned the wrong number of scores, or no permutation.
        Exception: whatever a forward pass of several jobs raises, unless they are tried ``apart``.
    """
    started = time.perf_counter()
    if rules.stacked and isinstance(scorer, Stackable):
        scorer = scorer.stacked()
    if isinstance(scorer, Scorer):
        found = _run_plans(scorer, jobs, rules, progress, apart=apart, named=named)
    else:
        found = _run_texts(scorer, jobs, progress, named=named)
    checked = finite(found, jobs)
    seconds = time.perf_counter() - started
    return [
        one if isinstance(one, Exception) else replace(one, usage=replace(one.usage, seconds=seconds))
        for one in checked
    ]


def _run_plans(
    scorer: Scorer, jobs: Sequence[Job], rules: Rules, progress: Progress, *, apart: bool, named: bool
) -> list[Outcome]:
    """What became of each job, to the first that failed. Jobs with documents of their own share a plan."""

    def planned(some: Sequence[Job]) -> list[Scored]:
        # In a cascade a copy and its original may part ways: one is kept and the other cut.
        return _run_plan(scorer, RowPlan(scorer, some, rules, once=not _cascades(scorer)), some, rules, progress)

    def alone(job: Job) -> Outcome:
        try:
            if isinstance(job.documents, Index):
                return _run_plan(scorer, IndexPlan(scorer, job, job.documents, rules), [job], rules, progress)[0]
            return planned([job])[0]
        except Exception as error:  # noqa: BLE001 -- raised where this job's turn comes
            return about(error, f"request {job.number}") if named else error

    fresh = [job for job in jobs if not isinstance(job.documents, Index)]
    together: list[Scored] | None = None
    try:
        together = planned(fresh)
    except Exception as error:
        if not apart:
            raise
        if len(jobs) == 1:
            return [about(error, f"request {jobs[0].number}")]
    shared = iter(together or ())
    found: list[Outcome] = []
    for job in jobs:
        own = together is None or isinstance(job.documents, Index)
        found.append(alone(job) if own else next(shared))
        if isinstance(found[-1], Exception):
            break
    return found


def _run_texts(
    scorer: TextScorer | ListRanker, jobs: Sequence[Job], progress: Progress, *, named: bool
) -> list[Outcome]:
    """What became of each job, to the first that failed."""
    total = sum(len(job.documents) for job in jobs)
    done = 0
    scored: list[Outcome] = []
    for job in jobs:
        texts = [document.text for document in job.documents]
        try:
            scores, statistics = _score_texts(scorer, job.query, texts) if texts else ([], {})
        except Exception as error:  # noqa: BLE001 -- raised where this job's turn comes
            return [*scored, about(error, f"request {job.number}") if named else error]
        done += len(texts)
        progress(done, total)
        scored.append(
            Scored(
                scores=scores,
                all_scores=[{"score": score} for score in scores],
                passages=[(Passage(0, len(text), score),) for text, score in zip(texts, scores, strict=True)],
                truncated=[None] * len(texts),
                stages=[0] * len(texts),
                usage=Usage(None, len(texts), 0.0),
                statistics=statistics,
            )
        )
    return scored


def _score_texts(
    scorer: TextScorer | ListRanker, query: str, texts: list[str]
) -> tuple[list[float], Mapping[str, Any]]:
    name = type(scorer).__name__
    if isinstance(scorer, TextScorer):
        return _floats(scorer.score(query, texts), len(texts), f"{name}.score"), {}
    permutation = scorer.rank(query, texts)
    try:
        order, statistics = [operator.index(position) for position in permutation.order], dict(permutation.statistics)
    except (AttributeError, TypeError, ValueError) as error:
        raise PluginError(f"{name}.rank returned {short(permutation)}, not a Permutation: {error}") from error
    if sorted(order) != list(range(len(texts))):
        raise PluginError(f"{name}.rank returned {short(order)} for {len(texts)} documents, not every position once")
    places = {position: place for place, position in enumerate(order, start=1)}
    return [float(-places[position]) for position in range(len(texts))], statistics


def _floats(values: Any, count: int, who: str) -> list[float]:
    """The numbers a scorer gave, as many as it should have given.

    Raises:
        PluginError: anything else.
    """
    try:
        given = [] if isinstance(values, (str, Mapping)) else list(values)
        if isinstance(values, (str, Mapping)) or any(isinstance(value, str) for value in given):
            raise TypeError("text is no number")
        numbers = [float(value) for value in given]
    except (TypeError, ValueError) as error:
        raise PluginError(f"{who} returned {short(values)}, not {count} numbers: {error}") from error
    if len(numbers) != count:
        raise PluginError(f"{who} returned {len(numbers)} scores for {count} texts or rows, not one each, in order")
    return numbers


def _run_plan(scorer: Scorer, plan: Plan, jobs: Sequence[Job], rules: Rules, progress: Progress) -> list[Scored]:
    windows = plan.windows
    board = _Board([[[] for _ in job.documents] for job in jobs], len(windows), rules.longdoc)
    for position, window in enumerate(windows):
        board.documents[window.query][window.doc].append(position)
    cascade = _cascades(scorer)
    states = []
    done = 0
    for positions in plan.batches():
        output = plan.forward(positions)
        board.record(output, positions)
        if cascade:
            states.append((positions, output.state))
        done += len(positions)
        progress(done, len(windows) - len(plan.copies))
    for position, original in plan.copies.items():
        board.scores[position] = board.scores[original]
    stages = [[0] * len(job.documents) for job in jobs]
    if isinstance(scorer, Resumable) and cascade:
        _deepen(scorer, states, board, stages)
    return [_collect(plan, board, query, stages[query]) for query in range(len(jobs))]


def _cascades(scorer: Scorer) -> bool:
    return isinstance(scorer, Resumable) and bool(scorer.keep)


class _Board:
    """Scores of the windows as they come in. ``documents[query][doc]`` are a document's windows in text order."""

    def __init__(self, documents: list[list[list[int]]], count: int, longdoc: LongDoc) -> None:
        self.documents = documents
        self.longdoc = longdoc
        self.scores: list[dict[str, float]] = [{} for _ in range(count)]

    def record(self, output: Output, positions: Sequence[int]) -> None:
        if not output.scores:
            raise PluginError("the scorer's Output holds no scores; the first of them ranks")
        scores = {name: _floats(values, len(positions), f"score {name!r}") for name, values in output.scores.items()}
        names = list(scores)
        for position, values in zip(positions, zip(*scores.values(), strict=True), strict=True):
            latest = dict(zip(names, values, strict=True))
            if before := self.scores[position]:
                # Names of a deeper stage go first: the first score ranks.
                latest.update({name: value for name, value in before.items() if name not in latest})
            self.scores[position] = latest

    def ranking_score(self, position: int) -> float:
        return next(iter(self.scores[position].values()))

    def combine(self, positions: Sequence[int]) -> dict[str, float]:
        """A document's scores by name; the first ranks."""
        names = self.scores[positions[0]]
        return {name: combined(self.longdoc, [self.scores[p][name] for p in positions]) for name in names}


def _deepen(scorer: Resumable, states: list[tuple[list[int], Any]], board: _Board, stages: list[list[int]]) -> None:
    """Carry the best documents of each query on, all windows of a survivor together."""
    keeps = list(scorer.keep)
    if min(keeps) < 1 or keeps != sorted(keeps, reverse=True):
        raise InputError(f"a cascade keeps {keeps!r} documents; each number must be positive and none grow")
    for stage, keep in enumerate(scorer.keep, start=1):
        survivors: set[int] = set()
        for query, documents in enumerate(board.documents):
            alive = [doc for doc in range(len(documents)) if stages[query][doc] == stage - 1]
            for doc in _best(board, documents, alive, keep):
                stages[query][doc] = stage
                survivors.update(documents[doc])
        deeper = []
        for positions, state in states:
            kept = [place for place, position in enumerate(positions) if position in survivors]
            if kept:
                output = scorer.resume(state, kept)
                going_on = [positions[place] for place in kept]
                board.record(output, going_on)
                deeper.append((going_on, output.state))
        states = deeper


def _best(board: _Board, documents: Sequence[Sequence[int]], alive: Sequence[int], keep: int) -> list[int]:
    scores = {doc: next(iter(board.combine(documents[doc]).values())) for doc in alive}
    return sorted(alive, key=lambda doc: (-scores[doc], doc))[:keep]


def _collect(plan: Plan, board: _Board, query: int, stages: list[int]) -> Scored:
    documents = board.documents[query]
    all_scores = [board.combine(positions) for positions in documents]
    passages = [
        tuple(Passage(*plan.chars(plan.windows[p]), board.ranking_score(p)) for p in positions)
        for positions in documents
    ]
    shared = len(plan.query_rows[query].ids) if documents and query in plan.query_rows else 0
    return Scored(
        scores=[next(iter(scores.values())) for scores in all_scores],
        all_scores=all_scores,
        passages=passages,
        truncated=[plan.truncated(query, doc) for doc in range(len(documents))],
        stages=stages,
        usage=Usage(
            tokens=shared + sum(plan.windows[p].length for ps in documents for p in ps if p not in plan.copies),
            passages=sum(map(len, documents)),
            seconds=0.0,
        ),
        query_truncated=plan.query_truncated[query],
    )
