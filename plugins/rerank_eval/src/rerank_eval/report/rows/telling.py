"""The queries that tell most: where models disagree, and where a model did harm, with the documents at the top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rerank_eval.figures.disagreement import Harm, disagreement, queries_made_worse
from rerank_eval.figures.evaluation import Row
from rerank_eval.figures.orders import first_stage_order, order_of
from rerank_eval.report.visible import Excerpt, excerpt
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet

__all__ = ["ShownDocument", "ShownQuery", "disputed", "harmed", "ranks_of", "scores_of"]

_TOP = 3
"""Documents shown from the top of each order."""

_MOST = 8
"""Documents shown of one query."""


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """A candidate with its ranks.

    Attributes:
        gain: None where nobody judged it.
        stage_rank: its rank in the first stage; None without one.
        ranks: by model, 1 is best; a model whose call failed has none.
        passage_of: the model whose best passage is marked in the excerpt; None where none is.
    """

    id: str
    gain: float | None
    stage_rank: int | None
    ranks: Mapping[str, int]
    text: Excerpt
    passage_of: str | None


@dataclass(frozen=True, slots=True)
class ShownQuery:
    """A query with some of its candidates.

    Attributes:
        values: the metric by model; None for a query that the metric leaves out.
        stage_value: the metric of the first stage; None without one, or for such a query.
        disagreement: of all models (`rerank_eval.figures.disagreement`); None in a list of harms.
        documents: those at the top of an order, and the most relevant ones; ``candidates`` is how many there are.
    """

    query: JudgedQuery
    values: Mapping[str, float | None]
    stage_value: float | None
    disagreement: float | None
    documents: tuple[ShownDocument, ...]
    candidates: int


def scores_of(judged: JudgedSet, row: Row) -> list[Sequence[float]]:
    """``[queries][candidates]``: a model's raw scores, empty where its call failed."""
    runs = {query.id: query for query in row.run.queries} if row.run else {}
    return [
        runs[query.id].scores if query.id in runs and runs[query.id].error is None else () for query in judged.queries
    ]


def ranks_of(scores: Sequence[float], gains: Sequence[float]) -> list[int]:
    """``[candidates]``: the rank of each, 1 is best.

    >>> ranks_of([0.1, 0.9, 0.5], [0.0, 0.0, 1.0])
    [3, 1, 2]
    """
    ranks = [0] * len(scores)
    for rank, at in enumerate(order_of(scores, gains), start=1):
        ranks[at] = rank
    return ranks


def disputed(judged: JudgedSet, rows: Sequence[Row], metric: str, *, limit: int, characters: int) -> list[ShownQuery]:
    """The queries about which the models disagree most.

    Args:
        rows: of the set; models with figures are compared.
        characters: of each text, at most.
    """
    models = [row for row in rows if row.kind == "model" and row.figures]
    if len(models) < 2 or not limit:
        return []
    found = disagreement(judged, {row.name: scores_of(judged, row) for row in models})
    place = {query.id: at for at, query in enumerate(judged.queries)}
    return [
        _shown(judged, place[name], rows, models, metric, characters, amount)
        for name, amount in list(found.items())[:limit]
        if amount > 0
    ]


def harmed(
    judged: JudgedSet, rows: Sequence[Row], model: Row, metric: str, *, limit: int, characters: int
) -> tuple[list[Harm], list[ShownQuery]]:
    """All queries that a model ranks worse than the first stage, and the worst of them with texts. Both are empty
    without a first stage."""
    stage = next((row for row in rows if row.kind == "first stage"), None)
    if stage is None or not model.figures:
        return [], []
    worse = queries_made_worse(judged, stage, model, metric)
    place = {query.id: at for at, query in enumerate(judged.queries)}
    return worse, [_shown(judged, place[one.query], rows, [model], metric, characters, None) for one in worse[:limit]]


def _shown(
    judged: JudgedSet,
    at: int,
    rows: Sequence[Row],
    models: Sequence[Row],
    metric: str,
    characters: int,
    amount: float | None,
) -> ShownQuery:
    query = judged.queries[at]
    ranks = {row.name: ranks_of(own, query.gains) for row in models if (own := scores_of(judged, row)[at])}
    stage_order = first_stage_order(judged)
    stage = _positions(stage_order(query)) if stage_order else None
    chosen = _chosen(query, [*ranks.values(), *([stage] if stage else [])])
    stage_row = next((row for row in rows if row.kind == "first stage"), None)
    documents = tuple(
        _document(query, at, position, {name: own[position] for name, own in ranks.items()}, stage, models, characters)
        for position in chosen
    )
    return ShownQuery(
        query=query,
        values={row.name: row.per_query[metric][at] for row in models},
        stage_value=stage_row.per_query[metric][at] if stage_row else None,
        disagreement=amount,
        documents=documents,
        candidates=len(query.candidates),
    )


def _positions(order: Sequence[int]) -> list[int]:
    """Ranks of an order."""
    ranks = [0] * len(order)
    for rank, at in enumerate(order, start=1):
        ranks[at] = rank
    return ranks


def _chosen(query: JudgedQuery, orders: Sequence[Sequence[int]]) -> list[int]:
    """Positions of the documents that are shown: the first of every order and the most relevant one, then the second of
    each, and so on; sorted by their best rank."""
    wanted: list[int] = []
    for top in range(1, _TOP + 1):
        wanted += [own.index(top) for own in orders if top <= len(own)]
        relevant = sorted(range(len(query.candidates)), key=lambda at: -query.gains[at])
        wanted += [at for at in relevant[:top] if query.gains[at] > 0]
    chosen = list(dict.fromkeys(wanted))[:_MOST]
    return sorted(chosen, key=lambda at: min((own[at] for own in orders), default=at))


def _document(
    query: JudgedQuery,
    at: int,
    position: int,
    ranks: Mapping[str, int],
    stage: Sequence[int] | None,
    models: Sequence[Row],
    characters: int,
) -> ShownDocument:
    candidate = query.candidates[position]
    spans = {row.name: row.run.queries[at].passages.get(position) for row in models if row.run and row.name in ranks}
    # The passage of the model that ranks the document highest.
    owner = min((name for name, span in spans.items() if span), key=lambda name: ranks[name], default=None)
    return ShownDocument(
        id=candidate.id,
        gain=candidate.gain,
        stage_rank=stage[position] if stage else None,
        ranks=ranks,
        text=excerpt(candidate.text, spans[owner] if owner else None, characters),
        passage_of=owner,
    )
