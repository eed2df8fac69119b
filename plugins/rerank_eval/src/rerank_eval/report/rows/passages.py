"""Long documents: where the best passage lies, and what reading only the first one costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from rerank_core.measures import Interval, paired
from rerank_eval.figures.evaluation import Row
from rerank_eval.figures.query_values import measured
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["FirstAgainstMax", "Positions", "first_against_max", "positions"]


@dataclass(frozen=True, slots=True)
class Positions:
    """Where the best passage of relevant documents lies: the middle of the passage, in thirds of the text.

    Attributes:
        documents: relevant documents that the model read in several passages, the sum of the three counts.
    """

    name: str
    beginning: int
    middle: int
    end: int

    @property
    def documents(self) -> int:
        return self.beginning + self.middle + self.end


def positions(judged: JudgedSet, rows: Sequence[Row]) -> list[Positions]:
    """A line for each model that read a relevant document in several passages."""
    queries = {query.id: query for query in judged.queries}
    found = []
    for row in rows:
        thirds = [0, 0, 0]
        for run in row.run.queries if row.run else ():
            candidates = queries[run.id].candidates if run.id in queries else ()
            for at, (start, stop) in run.passages.items():
                if at < len(candidates) and (candidates[at].gain or 0) > 0 and candidates[at].text:
                    middle = (start + stop) / 2 / len(candidates[at].text)
                    thirds[min(2, int(3 * middle))] += 1
        if any(thirds):
            found.append(Positions(row.name, *thirds))
    return found


@dataclass(frozen=True, slots=True)
class FirstAgainstMax:
    """One model with two rules for long documents.

    Attributes:
        difference: MaxP minus FirstP.
        first_ms, best_ms: median latency; None where it was not measured.
    """

    first: str
    best: str
    first_quality: Interval
    best_quality: Interval
    difference: Interval
    first_ms: float | None
    best_ms: float | None


def first_against_max(rows: Sequence[Row], metric: str) -> list[FirstAgainstMax]:
    """Pairs of runs of one model whose options differ in nothing but ``longdoc``: ``firstp`` in one, ``maxp`` in the
    other, which is also what an absent ``longdoc`` is taken for if the run has passages of several windows."""
    pairs = []
    for one, other in combinations([row for row in rows if row.run is not None and row.figures], 2):
        rules = {_rule(row): row for row in (one, other)}
        if set(rules) != {"firstp", "maxp"} or _others(one) != _others(other):
            continue
        first, best = rules["firstp"], rules["maxp"]
        difference = paired(measured(first.per_query[metric]), measured(best.per_query[metric]))
        pairs.append(
            FirstAgainstMax(
                first.name,
                best.name,
                first.figures[metric],
                best.figures[metric],
                difference,
                first.speed.median_ms if first.speed else None,
                best.speed.median_ms if best.speed else None,
            )
        )
    return pairs


def _rule(row: Row) -> str | None:
    """``firstp``, ``maxp``, or None for another rule."""
    if row.run is None:
        return None
    rule = row.run.options.get("longdoc")
    if rule is None and any(query.passages for query in row.run.queries):
        return "maxp"
    return str(rule).lower() if str(rule).lower() in ("firstp", "maxp") else None


def _others(row: Row) -> tuple[object, ...]:
    """What two runs must share beside ``longdoc``."""
    if row.run is None:
        return ()
    options = {key: item for key, item in row.run.options.items() if key != "longdoc"}
    return (row.run.source, options)
