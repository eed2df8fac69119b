"""What a reranker says of many lists of documents: raw scores in their order, whatever kind of model it is."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rerank_core.errors import InputError, NonFiniteScoreError, short
from rerank_core.records.training_row import TrainingRow
from rerank_core.reranker import Reranker
from rerank_core.scorer import is_listwise
from rerank_core.types import Ranking, ScoreSpace, query_of

__all__ = ["ScoreRequest", "ScoreResult", "follows_instructions", "row_name", "score_requests"]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Documents to score for a query.

    Attributes:
        where: how a message names it, as in "row 'train.jsonl:3'".
    """

    query: str
    docs: Sequence[str]
    instruction: str | None = None
    where: str = "a row"


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What the model made of a request.

    Attributes:
        scores: one a document, in the request's order; higher is better.
        space: what they are: logit, probability, cosine, maxsim, or rank (minus the rank, of a listwise model).
        truncated: documents of which the model did not read everything, as far as it can tell.
        query_truncated: whether the query was cut.
        statistics: what a listwise model reports of its work.
    """

    scores: Sequence[float]
    space: ScoreSpace
    truncated: int
    query_truncated: bool
    statistics: Mapping[str, Any] = field(default_factory=dict)


def row_name(row: TrainingRow, place: int) -> str:
    """How a message names a row: by its id, or else by its position."""
    return f"row {place if row.id is None else repr(row.id)}"


def follows_instructions(reranker: Reranker) -> bool:
    """Whether the instruction of a row can be given to the model, as an option of the call."""
    return any(option.name == "instruction" and option.when == "call" for option in reranker.spec.options)


def score_requests(
    requests: Sequence[ScoreRequest],
    reranker: Reranker,
    *,
    activation: str = "none",
    seed: int | None = None,
    **options: Any,
) -> list[ScoreResult]:
    """Score all requests in as few plans as their instructions allow; answers come in their order.

    Args:
        activation: ``none`` for raw scores, ``sigmoid``, or ``default`` for what the model's authors apply.
        seed: of the order in which a model that orders lists is shown documents, always the same for a request. What
            such a model does not know it leaves in the order it was given, and training rows have the relevant
            documents first. Without a seed it sees them as they are: as a first stage ranked them, say.
        options: others of ``Reranker.rerank_many``; a request's own instruction wins over one given here.

    Raises:
        InputError: a query or option that cannot be used, or a cascade, whose scores do not compare.
        NonFiniteScoreError: the model gave NaN or infinity; the message names the rows.
    """
    takes = follows_instructions(reranker)
    together: dict[str | None, list[int]] = {}
    for place, request in enumerate(requests):
        query_of(request.query, f"the query of {request.where}")
        together.setdefault(request.instruction if takes else None, []).append(place)
    orders = [_order(request, seed if is_listwise(reranker.scorer) else None) for request in requests]
    answers: dict[int, ScoreResult] = {}
    for instruction, places in together.items():
        given = options if instruction is None else {**options, "instruction": instruction}
        try:
            rankings = reranker.rerank_many(
                [(requests[place].query, [requests[place].docs[doc] for doc in orders[place]]) for place in places],
                activation=activation,
                **given,
            )
        except NonFiniteScoreError as error:
            bad = [(places[query], orders[places[query]][doc]) for query, doc in error.documents]
            named = [f"document {doc} of {requests[place].where}" for place, doc in bad]
            raise NonFiniteScoreError(
                f"{reranker.spec.name!r} gave NaN or infinity for {short(named)}", error.documents
            ) from error
        for place, ranking in zip(places, rankings, strict=True):
            answers[place] = _answer(ranking, orders[place], requests[place].where)
    return [answers[place] for place in range(len(requests))]


def _order(request: ScoreRequest, seed: int | None) -> list[int]:
    """In which order the model is shown the documents; as they are without a seed."""
    order = list(range(len(request.docs)))
    if seed is not None:
        random.Random(f"shown {seed} {request.where} {request.query}").shuffle(order)
    return order


def _answer(ranking: Ranking, order: Sequence[int], where: str) -> ScoreResult:
    if len({hit.stage for hit in ranking}) > 1:
        raise InputError(
            f"{ranking.model!r} scored the documents of {where} at different depths of a cascade, and such scores do "
            "not compare; load it without the cascade"
        )
    scores = dict(zip(order, ranking.scores(), strict=True))
    cut = sum(hit.truncated is True for hit in ranking)
    return ScoreResult(
        scores=[scores[doc] for doc in range(len(order))],
        space=ranking.score_space,
        # A passage may be shown in two windows.
        truncated=cut or min(len(order), int(ranking.statistics.get("shortened", 0))),
        query_truncated=ranking.query_truncated,
        statistics=ranking.statistics,
    )
