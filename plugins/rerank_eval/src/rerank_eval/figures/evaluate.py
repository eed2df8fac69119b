"""`evaluate`: from the runs of models on sets to an `Evaluation`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from rerank_core import InputError
from rerank_core.measures import Interval, bm25_scores, intervals_of, measure_scores, random_values
from rerank_eval.figures.comparisons import compare
from rerank_eval.figures.evaluation import Comparison, Evaluation, Kind, Row
from rerank_eval.figures.orders import first_stage_order, scores_of_order
from rerank_eval.figures.query_values import aligned, gains_of, measured, values_of_scores
from rerank_eval.figures.speed import speed_of
from rerank_eval.runs.model_run import ModelRun
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["METRICS", "check_sets", "evaluate", "known_metrics"]

METRICS = ("nDCG@10", "AP", "RR@10")


def evaluate(
    sets: Sequence[JudgedSet],
    runs: Sequence[ModelRun],
    metrics: Sequence[str] = METRICS,
    *,
    price_per_hour: float | None = None,
    seed: int = 0,
) -> Evaluation:
    """Compute all figures of the table.

    Args:
        metrics: names of `rerank_core.measures`; the first decides: rows are sorted and compared by it.
        price_per_hour: of the machine, for the cost of 1,000 queries.
        seed: of the random orders, the bootstrap and the randomisation tests.

    Raises:
        InputError: no set, a set with fewer than two queries or without a name of its own, or an unknown metric.
        MissingDependencyError: the libraries of ``rerank-core[eval]`` are not installed.
    """
    if not sets or not metrics:
        raise InputError(f"an evaluation needs sets and metrics, and got {len(sets)} and {list(metrics)!r}")
    known_metrics(metrics)
    check_sets(sets, metrics)
    rows: list[Row] = []
    comparisons: list[Comparison] = []
    for judged in sets:
        table = _Table(judged, metrics, seed)
        # Two sets with equal texts and other judgements share their runs.
        of_set = {run.model: run for run in runs if run.set_digest == judged.digest}
        own = [table.of_run(run, price_per_hour) for run in of_set.values()]
        own = _with_figures([*own, *table.baselines()], seed)
        rows += own
        comparisons += compare(own, metrics[0], seed=seed)
    return Evaluation(
        tuple(sets),
        tuple(metrics),
        tuple(rows),
        tuple(comparisons),
        {judged.name: _judged_share(judged) for judged in sets},
        price_per_hour,
    )


def check_sets(sets: Iterable[JudgedSet], metrics: Iterable[str]) -> None:
    """Refuse sets on which a metric has no mean with an interval.

    Raises:
        InputError: a set with fewer than two queries, or a metric that can be measured on fewer than two of them.
    """
    metrics = tuple(metrics)
    for judged in sets:
        if len(judged.queries) < 2:
            raise InputError(
                f"the set {judged.name!r} has {len(judged.queries)} queries with a relevant and an irrelevant "
                "candidate; an evaluation needs two or more, and about 50 to tell models apart"
            )
        for metric, values in values_of_scores(judged, [()] * len(judged.queries), metrics).items():
            if (count := len(measured(values))) < 2:
                raise InputError(
                    f"{metric} can be measured on {count} of the {len(judged.queries)} queries of the set "
                    f"{judged.name!r}, and an interval needs two. For every metric but nDCG a document is relevant "
                    "from a gain of 0.5: give such gains, or another --metric"
                )


def known_metrics(names: Iterable[str]) -> tuple[str, ...]:
    """The names, if each is a known metric.

    Raises:
        InputError: one is not.
        MissingDependencyError: ir_measures is not installed.
    """
    names = tuple(names)
    measure_scores(names, [{0: 1.0, 1: 0.0}], [{0: 1.0, 1: 0.0}])
    return names


class _Table:
    """The rows of one set."""

    def __init__(self, judged: JudgedSet, metrics: Sequence[str], seed: int) -> None:
        self._set, self._metrics, self._seed = judged, metrics, seed
        cutoff = re.search(r"@(\d+)$", metrics[0])
        self._judged_at = f"Judged@{cutoff[1] if cutoff else 10}"
        self._all = [*dict.fromkeys((*metrics, self._judged_at))]

    def of_run(self, run: ModelRun, price_per_hour: float | None) -> Row:
        """The row of a model."""
        speed = speed_of(run.queries, price_per_hour)
        if run.stopped is not None:
            return Row(self._set.name, run.model, "model", {}, {}, run, speed)
        done = [own for own in run.queries if own.error is None]
        return replace(
            self._of_scores("model", run.model, [own.scores for own in run.queries]),
            run=run,
            speed=speed,
            failed=len(run.queries) - len(done),
            truncated=_share(sum(len(own.truncated) for own in done), sum(len(own.scores) for own in done)),
        )

    def baselines(self) -> list[Row]:
        """The first stage, the floors and the ceiling."""
        queries = self._set.queries
        rows = []
        if (order := first_stage_order(self._set)) is not None:
            name = f"first stage: {self._set.first_stage or 'order of the file'}"
            rows.append(self._of_scores("first stage", name, [scores_of_order(order(query)) for query in queries]))
        if "bm25" not in (self._set.first_stage or "").lower():  # which has it with the statistics of all documents
            texts = [dict(enumerate(one.text for one in query.candidates)) for query in queries]
            bm25 = bm25_scores([query.text for query in queries], texts)
            rows.append(self._of_scores("BM25", "BM25", [list(own.values()) for own in bm25]))
        positions = [list(range(len(query.candidates))) for query in queries]
        chance = random_values(self._all, [gains_of(query) for query in queries], positions, seed=self._seed)
        rows.append(self._row("random", "random", {name: aligned(own, len(queries)) for name, own in chance.items()}))
        rows.append(self._of_scores("oracle", "oracle", [query.gains for query in queries]))
        return rows

    def _of_scores(self, kind: Kind, name: str, scores: Sequence[Sequence[float]]) -> Row:
        return self._row(kind, name, values_of_scores(self._set, scores, self._all))

    def _row(self, kind: Kind, name: str, values: Mapping[str, tuple[float | None, ...]]) -> Row:
        per_query = {metric: values[metric] for metric in self._metrics}
        judged = measured(values[self._judged_at])
        return Row(self._set.name, name, kind, per_query, {}, judged=fmean(judged))


def _with_figures(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows with the mean and interval of each metric. All rows share the draws of a metric's queries."""
    figures: list[dict[str, Interval]] = [{} for _ in rows]
    for metric in next(row.per_query for row in rows if row.per_query):
        own = [at for at, row in enumerate(rows) if row.per_query]
        found = intervals_of([measured(rows[at].per_query[metric]) for at in own], seed=seed)
        for at, figure in zip(own, found, strict=True):
            figures[at][metric] = figure
    return [replace(row, figures=own) for row, own in zip(rows, figures, strict=True)]


def _judged_share(judged: JudgedSet) -> float:
    candidates = [one for query in judged.queries for one in query.candidates]
    return _share(sum(one.gain is not None for one in candidates), len(candidates))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
