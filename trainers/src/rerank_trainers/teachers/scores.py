"""Scores many lists of documents with a reranker of any kind; raw scores come in the order of the documents."""

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
        where: name of the row in messages, such as "row 'train.jsonl:3'".
    """

    query: str
    docs: Sequence[str]
    instruction: str | None = None
    where: str = "a row"


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The scores of a request.

    Attributes:
        scores: one per document, in the order of the request; higher is better.
        space: kind of the scores: logit, probability, cosine, maxsim, or rank (minus the rank, for a listwise model).
        truncated: number of documents that the model did not read to the end, if the model reports it.
        query_truncated: whether the query was truncated.
        statistics: statistics that a listwise model reports.
    """

    scores: Sequence[float]
    space: ScoreSpace
    truncated: int
    query_truncated: bool
    statistics: Mapping[str, Any] = field(default_factory=dict)


def row_name(row: TrainingRow, index: int) -> str:
    """The name of a row in messages: its id, or its index if it has none."""
    return f"row {index if row.id is None else repr(row.id)}"


def follows_instructions(reranker: Reranker) -> bool:
    """Whether the model takes an instruction as a call option."""
    return any(option.name == "instruction" and option.when == "call" for option in reranker.spec.options)


def score_requests(
    requests: Sequence[ScoreRequest],
    reranker: Reranker,
    *,
    activation: str = "none",
    seed: int | None = None,
    **options: Any,
) -> list[ScoreResult]:
    """Score all requests, with one call of the reranker per distinct instruction; results are in their order.

    Args:
        activation: ``none`` for raw scores, ``sigmoid``, or ``default`` for the activation of the model's authors.
        seed: seed of the random order in which a listwise model gets the documents; it is the same for equal requests.
            A listwise model tends to keep the order of documents that it cannot judge, and training rows list relevant
            documents first. With None the documents stay in their order, such as that of a first-stage retriever.
        options: further options of ``Reranker.rerank_many``; the instruction of a request overrides one given here.

    Raises:
        InputError: an invalid query or option, or a cascade, whose scores are not comparable.
        NonFiniteScoreError: the model gave NaN or infinity; the message names the rows.
    """
    takes_instruction = follows_instructions(reranker)
    by_instruction: dict[str | None, list[int]] = {}
    for index, request in enumerate(requests):
        query_of(request.query, f"the query of {request.where}")
        by_instruction.setdefault(request.instruction if takes_instruction else None, []).append(index)
    orders = [_order(request, seed if is_listwise(reranker.scorer) else None) for request in requests]
    results: dict[int, ScoreResult] = {}
    for instruction, indices in by_instruction.items():
        call_options = options if instruction is None else {**options, "instruction": instruction}
        try:
            rankings = reranker.rerank_many(
                [(requests[index].query, [requests[index].docs[doc] for doc in orders[index]]) for index in indices],
                activation=activation,
                **call_options,
            )
        except NonFiniteScoreError as error:
            positions = [(indices[query], orders[indices[query]][doc]) for query, doc in error.documents]
            names = [f"document {doc} of {requests[index].where}" for index, doc in positions]
            raise NonFiniteScoreError(
                f"{reranker.spec.name!r} gave NaN or infinity for {short(names)}", error.documents
            ) from error
        for index, ranking in zip(indices, rankings, strict=True):
            results[index] = _result(ranking, orders[index], requests[index].where)
    return [results[index] for index in range(len(requests))]


def _order(request: ScoreRequest, seed: int | None) -> list[int]:
    """The order in which the model gets the documents; unchanged without a seed."""
    order = list(range(len(request.docs)))
    if seed is not None:
        random.Random(f"shown {seed} {request.where} {request.query}").shuffle(order)
    return order


def _result(ranking: Ranking, order: Sequence[int], where: str) -> ScoreResult:
    if len({hit.stage for hit in ranking}) > 1:
        raise InputError(
            f"{ranking.model!r} scored the documents of {where} at different depths of a cascade, and such "
            "scores are not comparable; load it without the cascade"
        )
    scores = dict(zip(order, ranking.scores(), strict=True))
    truncated = sum(hit.truncated is True for hit in ranking)
    return ScoreResult(
        scores=[scores[doc] for doc in range(len(order))],
        space=ranking.score_space,
        # "shortened" counts a passage once for each window it is in.
        truncated=truncated or min(len(order), int(ranking.statistics.get("shortened", 0))),
        query_truncated=ranking.query_truncated,
        statistics=ranking.statistics,
    )
