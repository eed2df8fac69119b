"""Length of documents against loss: whether a model puts long relevant documents too low."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from rerank_core.measures import Interval, interval
from rerank_eval.figures.evaluation import Row
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet

__all__ = ["LengthBin", "LengthLoss", "edges_of", "length_loss", "loss_of"]

_PARTS = 4


@dataclass(frozen=True, slots=True)
class LengthBin:
    """Relevant documents of ``low`` to ``high`` characters.

    Attributes:
        loss: mean over queries of the mean `loss_of` of the query's documents of this length; None below two queries.
    """

    low: int
    high: int
    documents: int
    queries: int
    loss: Interval | None


@dataclass(frozen=True, slots=True)
class LengthLoss:
    name: str
    bins: tuple[LengthBin, ...]


def length_loss(judged: JudgedSet, rows: Sequence[Row]) -> list[LengthLoss]:
    """A line for each model, with up to four bins that hold about equally many relevant documents of the set."""
    lengths = [len(one.text) for query in judged.queries for one in query.candidates if (one.gain or 0) > 0]
    edges = edges_of(lengths)
    queries = {query.id: query for query in judged.queries}
    lines = []
    for row in rows:
        losses: list[list[list[float]]] = [[] for _ in edges[1:]]
        for run in row.run.queries if row.run else ():
            query = queries.get(run.id)
            if query is None or run.error is not None or len(run.scores) != len(query.candidates):
                continue
            own = _by_bin(query, run.scores, edges)
            for at, values in own.items():
                losses[at].append(values)
        bins = tuple(
            LengthBin(
                low=edges[at],
                high=edges[at + 1],
                documents=sum(map(len, values)),
                queries=len(values),
                loss=interval([sum(one) / len(one) for one in values]) if len(values) > 1 else None,
            )
            for at, values in enumerate(losses)
        )
        if any(one.loss for one in bins):
            lines.append(LengthLoss(row.name, bins))
    return lines


def edges_of(lengths: Sequence[int]) -> list[int]:
    """The lengths that separate the bins: quartiles, with equal ones merged; a bin holds ``low < length <= high``.

    >>> edges_of([10, 20, 30, 40, 50])
    [9, 15, 30, 45, 50]
    """
    if not lengths:
        return []
    cuts = [round(cut) for cut in quantiles(lengths, n=_PARTS)] if len(lengths) > 1 else []
    return sorted({min(lengths) - 1, *(min(cut, max(lengths)) for cut in cuts if cut >= min(lengths)), max(lengths)})


def loss_of(gains: Sequence[float], scores: Sequence[float], at: int) -> float | None:
    """The share of less relevant candidates that score at least as high as candidate ``at``: 0 is perfect, 0.5 is what
    a random order gives. None where no candidate is less relevant.

    >>> loss_of([1.0, 0.0, 0.0, 2.0], [0.5, 0.5, 0.1, 0.9], at=0)
    0.5
    """
    lower = [other for other, gain in enumerate(gains) if gain < gains[at]]
    return sum(scores[other] >= scores[at] for other in lower) / len(lower) if lower else None


def _by_bin(query: JudgedQuery, scores: Sequence[float], edges: Sequence[int]) -> dict[int, list[float]]:
    """Losses of a query's relevant documents, by bin."""
    found: dict[int, list[float]] = {}
    gains = query.gains
    for at, candidate in enumerate(query.candidates):
        if not gains[at] > 0:
            continue
        loss = loss_of(gains, scores, at)
        if loss is not None:
            place = next(number for number, edge in enumerate(edges[1:]) if len(candidate.text) <= edge)
            found.setdefault(place, []).append(loss)
    return found
