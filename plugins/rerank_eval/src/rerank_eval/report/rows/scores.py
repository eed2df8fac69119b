"""Scores of relevant and irrelevant documents, and how well they can be read as probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core import InputError
from rerank_core.measures import Bar, Reliability, cross_validated, histogram, platt
from rerank_eval.figures.evaluation import Row
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["ScoreFigures", "by_query", "score_figures"]

_BINS = 20


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """Figures of a model's raw scores on one set, over judged candidates.

    Attributes:
        bars: documents by score and label.
        reliability: of probabilities by Platt's method, cross-validated over queries; None where ``reason`` says why.
        reason: why scores have no probability here, in words.
    """

    bars: tuple[Bar, ...]
    reliability: Reliability | None
    reason: str = ""


def score_figures(judged: JudgedSet, row: Row) -> ScoreFigures:
    """The figures of a model's row. Ranks, which a listwise model and a cascade give, are no scores."""
    queries = by_query(judged, row)
    if row.run is not None and all(_are_ranks(query.scores) for query in row.run.queries if query.scores):
        return ScoreFigures((), None, "it gives ranks, which cannot be compared between queries")
    scored = [pair for query in queries for pair in query]
    if not scored:
        return ScoreFigures((), None, "it scored no judged document")
    bars = tuple(histogram(scored, bins=_BINS))
    try:
        return ScoreFigures(bars, cross_validated(platt, queries))
    except InputError as error:
        return ScoreFigures(bars, None, str(error))


def _are_ranks(scores: Sequence[float]) -> bool:
    return sorted(scores, reverse=True) == [-float(rank) for rank in range(1, len(scores) + 1)]


def by_query(judged: JudgedSet, row: Row) -> list[list[tuple[float, int]]]:
    """For each query whose call succeeded: the raw score of each judged candidate, and 1 if it is relevant."""
    runs = {query.id: query for query in (row.run.queries if row.run else ())}
    pairs = []
    for query in judged.queries:
        run = runs.get(query.id)
        if run is None or run.error is not None or len(run.scores) != len(query.candidates):
            continue
        judgements = zip(run.scores, query.candidates, strict=True)
        pairs.append([(score, int(one.gain > 0)) for score, one in judgements if one.gain is not None])
    return [query for query in pairs if query]
