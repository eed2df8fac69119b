"""`Evaluation`: all figures of one call of `rerank eval`, which the table, JSON, report and advice are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rerank_core.measures import Interval
from rerank_eval.runs.model_run import ModelRun
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["Comparison", "Evaluation", "Kind", "Row", "Speed"]

Kind = Literal["model", "first stage", "random", "BM25", "oracle"]


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured on this machine, one query a call.

    Attributes:
        median_ms, p95_ms: wall time of a query.
        tokens_per_second: None where the model counts no tokens.
        cost_per_1000: cost of 1,000 queries at the given price of an hour; None without a price.
    """

    median_ms: float
    p95_ms: float
    tokens_per_second: float | None = None
    cost_per_1000: float | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table of a set.

    Attributes:
        kind: ``model``; ``first stage`` (the order that models get improved or not, always there if the set has one);
            the floors ``random`` and ``BM25``; the ceiling ``oracle`` (the best order of these candidates).
        per_query: for each metric ``[queries]``: its value, 0 for a query whose call failed (`failed` counts them, and
            ``run.queries`` has the messages), None for a query that the metric leaves out, the same ones in all rows
            (`rerank_core.measures.measure_scores`). Empty where the run was stopped.
        figures: for each metric its mean over queries with the bounds of its interval. Empty where the run was stopped,
            because figures of some queries compare with nothing.
        run: the model's run; None for floors, the first stage and the ceiling. ``run.stopped`` and ``run.reason`` say
            why there are no figures.
        failed: queries whose call failed; they count as 0 in every metric.
        truncated: share of candidates of which some text was not read.
        judged: share of judged documents among the first k of the row's order, k as in the first metric or 10
            (Judged@k); None where the run was stopped.
    """

    set: str
    name: str
    kind: Kind
    per_query: Mapping[str, Sequence[float | None]]
    figures: Mapping[str, Interval]
    run: ModelRun | None = None
    speed: Speed | None = None
    failed: int = 0
    truncated: float = 0.0
    judged: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two rows of one set on the same queries, by the first metric: two models, or the first stage and a model.

    Attributes:
        difference: mean of ``second - first`` with the bounds of its interval.
        p: of a paired randomisation test.
        p_corrected: the same after Holm's correction over all comparisons of the set.
        more_queries: further queries like these with which the test would find this difference with a probability of
            80 %; 0 where these are enough, None where there is no difference.
    """

    set: str
    metric: str
    first: str
    second: str
    difference: Interval
    p: float
    p_corrected: float
    more_queries: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """Sets, and for each set the rows of its table.

    Attributes:
        metrics: names; the first decides.
        judged_share: for each set the share of judged documents among the candidates.
        price_per_hour: of the machine; None where it was not given.
    """

    sets: tuple[JudgedSet, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    judged_share: Mapping[str, float] = field(default_factory=dict)
    price_per_hour: float | None = None

    def rows_of(self, name: str) -> list[Row]:
        """The rows of a set, best first by the first metric; stopped runs come last."""
        own = [row for row in self.rows if row.set == name]
        return sorted(own, key=lambda row: -row.figures[self.metrics[0]].mean if row.figures else math.inf)

    @property
    def models(self) -> list[str]:
        """The labels of all models, in the order in which they were given."""
        return list(dict.fromkeys(row.name for row in self.rows if row.kind == "model"))
