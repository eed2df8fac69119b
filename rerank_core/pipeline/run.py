"""The path of every call: plan the rows, forward batch by batch, combine window scores into document scores.

All queries of a call share one plan. Rows are assembled batch by batch, so memory is bounded by the token budget
and not by the number of documents.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rerank_core.errors import InputError, PluginError, short, with_context
from rerank_core.index.index import Index, IndexPlan
from rerank_core.pipeline.outcomes import Outcome, Scored, check_finite
from rerank_core.planning.longdoc import LongDoc, combined_score
from rerank_core.planning.parallel import compute_all
from rerank_core.planning.row_plan import Job, Plan, RowPlan, Rules
from rerank_core.planning.shared_tokens import SharedTokens, Tokenize
from rerank_core.progress import Progress, silent
from rerank_core.scorer import AnyScorer, ListRanker, Output, Resumable, Scorer, Stackable, TextScorer, cascades
from rerank_core.types import Passage, Usage

__all__ = ["run"]


def run(
    scorer: AnyScorer,
    jobs: Sequence[Job],
    rules: Rules,
    progress: Progress = silent,
    *,
    numbered: bool = False,
    retry_alone: bool = False,
    tokens: SharedTokens | None = None,
) -> list[Outcome]:
    """Score every document of every job. Outcomes are in the order of the jobs, up to the first that failed.

    Args:
        numbered: the jobs are numbered requests of the caller, so the error of a job begins with its number.
        retry_alone: where the plan of several jobs fails, run each job alone, so that those before the faulty one
            are scored.
        tokens: tokens that several scorers share.

    Raises:
        InputError: a query that leaves no room for a document.
        PluginError: the scorer returned the wrong number of scores, or no permutation.
        Exception: any error of a forward pass of several jobs, unless ``retry_alone``.
    """
    started = time.perf_counter()
    if rules.stacked and isinstance(scorer, Stackable):
        scorer = scorer.stacked()
    if isinstance(scorer, Scorer):
        tokenize = scorer.tokenize if tokens is None else tokens.tokenize(scorer)
        outcomes = _run_plans(scorer, tokenize, jobs, rules, progress, retry_alone=retry_alone, numbered=numbered)
    else:
        outcomes = _run_texts(scorer, jobs, progress, numbered=numbered)
    outcomes = check_finite(outcomes, jobs)
    seconds = time.perf_counter() - started
    return [
        outcome if isinstance(outcome, Exception) else replace(outcome, usage=replace(outcome.usage, seconds=seconds))
        for outcome in outcomes
    ]


def _run_plans(
    scorer: Scorer,
    tokenize: Tokenize,
    jobs: Sequence[Job],
    rules: Rules,
    progress: Progress,
    *,
    retry_alone: bool,
    numbered: bool,
) -> list[Outcome]:
    """The outcome of each job, up to the first that failed. Jobs without an index share one plan."""

    def run_together(some: Sequence[Job]) -> list[Scored]:
        # A cascade may keep a window and drop its duplicate, so it scores both.
        plan = RowPlan(scorer, some, rules, deduplicate=not cascades(scorer), tokenize=tokenize)
        return _run_plan(scorer, plan, some, rules, progress)

    def run_alone(job: Job) -> Outcome:
        try:
            if isinstance(job.documents, Index):
                return _run_plan(scorer, IndexPlan(scorer, job, job.documents, rules), [job], rules, progress)[0]
            return run_together([job])[0]
        except Exception as error:  # noqa: BLE001 -- raised after the rankings of the jobs before it
            return with_context(error, f"request {job.number}") if numbered else error

    without_index = [job for job in jobs if not isinstance(job.documents, Index)]
    together: list[Scored] | None = None
    try:
        together = run_together(without_index)
    except Exception as error:
        if not retry_alone:
            raise
        if len(jobs) == 1:
            return [with_context(error, f"request {jobs[0].number}")]
    of_shared_plan = iter(together or ())
    outcomes: list[Outcome] = []
    for job in jobs:
        alone = together is None or isinstance(job.documents, Index)
        outcomes.append(run_alone(job) if alone else next(of_shared_plan))
        if isinstance(outcomes[-1], Exception):
            break
    return outcomes


def _run_texts(
    scorer: TextScorer | ListRanker, jobs: Sequence[Job], progress: Progress, *, numbered: bool
) -> list[Outcome]:
    """The outcome of each job, up to the first that failed."""
    total = sum(len(job.documents) for job in jobs)
    done = 0
    scored: list[Outcome] = []
    for job in jobs:
        texts = [document.text for document in job.documents]
        try:
            scores, statistics = _score_texts(scorer, job.query, texts) if texts else ([], {})
        except Exception as error:  # noqa: BLE001 -- raised after the rankings of the jobs before it
            return [*scored, with_context(error, f"request {job.number}") if numbered else error]
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
    ranks = {position: rank for rank, position in enumerate(order, start=1)}
    return [float(-ranks[position]) for position in range(len(texts))], statistics


def _floats(values: Any, count: int, function: str) -> list[float]:
    """The ``count`` numbers that a scorer's function returned, as floats.

    Raises:
        PluginError: anything else.
    """
    try:
        items = [] if isinstance(values, (str, Mapping)) else list(values)
        if isinstance(values, (str, Mapping)) or any(isinstance(item, str) for item in items):
            raise TypeError("text is no number")
        numbers = [float(item) for item in items]
    except (TypeError, ValueError) as error:
        raise PluginError(f"{function} returned {short(values)}, not {count} numbers: {error}") from error
    if len(numbers) != count:
        raise PluginError(
            f"{function} returned {len(numbers)} scores for {count} texts or rows, not one each, in order"
        )
    return numbers


def _run_plan(scorer: Scorer, plan: Plan, jobs: Sequence[Job], rules: Rules, progress: Progress) -> list[Scored]:
    windows = plan.windows
    window_scores = _WindowScores([[[] for _ in job.documents] for job in jobs], len(windows), rules.longdoc)
    for position, window in enumerate(windows):
        window_scores.documents[window.query][window.doc].append(position)
    cascade = cascades(scorer)
    states: list[tuple[list[int], Any]] = []
    done = 0

    def record(positions: list[int], output: Output) -> None:
        nonlocal done
        window_scores.record(output, positions)
        if cascade:
            states.append((positions, output.state))
        done += len(positions)
        progress(done, len(windows) - len(plan.duplicates))

    compute_all(scorer, plan.batches(), plan.forward, record)
    for position, original in plan.duplicates.items():
        window_scores.scores[position] = window_scores.scores[original]
    stages = [[0] * len(job.documents) for job in jobs]
    if isinstance(scorer, Resumable) and cascade:
        _run_cascade(scorer, states, window_scores, stages)
    return [_collect(plan, window_scores, query, stages[query]) for query in range(len(jobs))]


class _WindowScores:
    """The scores of all windows of a plan. ``documents[query][doc]`` lists a document's windows in text order."""

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
            if earlier := self.scores[position]:
                # The names of a later cascade stage go first: the first score ranks.
                latest.update({name: value for name, value in earlier.items() if name not in latest})
            self.scores[position] = latest

    def ranking_score(self, position: int) -> float:
        return next(iter(self.scores[position].values()))

    def combine(self, positions: Sequence[int]) -> dict[str, float]:
        """A document's scores by name; the first ranks."""
        names = self.scores[positions[0]]
        return {name: combined_score(self.longdoc, [self.scores[p][name] for p in positions]) for name in names}


def _run_cascade(
    scorer: Resumable, states: list[tuple[list[int], Any]], window_scores: _WindowScores, stages: list[list[int]]
) -> None:
    """Run the cascade's later stages: the best documents of each query go on, with all their windows."""
    keeps = list(scorer.keep)
    if min(keeps) < 1 or keeps != sorted(keeps, reverse=True):
        raise InputError(
            f"a cascade keeps {keeps!r} documents; each number must be positive and no larger than the one before"
        )
    for stage, keep in enumerate(scorer.keep, start=1):
        survivors: set[int] = set()
        for query, documents in enumerate(window_scores.documents):
            alive = [doc for doc in range(len(documents)) if stages[query][doc] == stage - 1]
            for doc in _best(window_scores, documents, alive, keep):
                stages[query][doc] = stage
                survivors.update(documents[doc])
        going_on = [
            (state, rows, [positions[row] for row in rows])
            for positions, state in states
            if (rows := [row for row, position in enumerate(positions) if position in survivors])
        ]
        states = _resumed(scorer, going_on, window_scores)


def _resumed(
    scorer: Resumable, batches: list[tuple[Any, list[int], list[int]]], window_scores: _WindowScores
) -> list[tuple[list[int], Any]]:
    """Run the next stage for ``(state, rows, positions of their windows)``; gives the states after it."""
    states: list[tuple[list[int], Any]] = []

    def record(batch: tuple[Any, list[int], list[int]], output: Output) -> None:
        window_scores.record(output, batch[2])
        states.append((batch[2], output.state))

    compute_all(scorer, batches, lambda batch: scorer.resume(batch[0], batch[1]), record)
    return states


def _best(
    window_scores: _WindowScores, documents: Sequence[Sequence[int]], alive: Sequence[int], keep: int
) -> list[int]:
    scores = {doc: next(iter(window_scores.combine(documents[doc]).values())) for doc in alive}
    return sorted(alive, key=lambda doc: (-scores[doc], doc))[:keep]


def _collect(plan: Plan, window_scores: _WindowScores, query: int, stages: list[int]) -> Scored:
    documents = window_scores.documents[query]
    all_scores = [window_scores.combine(positions) for positions in documents]
    passages = [
        tuple(Passage(*plan.chars(plan.windows[p]), window_scores.ranking_score(p)) for p in positions)
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
            tokens=shared + sum(plan.windows[p].length for ps in documents for p in ps if p not in plan.duplicates),
            passages=sum(map(len, documents)),
            seconds=0.0,
        ),
        query_truncated=plan.query_truncated[query],
    )
