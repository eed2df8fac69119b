"""The outcome of each job of a call: its scores, or the error that stopped it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rerank_core.errors import NonFiniteScoreError, short
from rerank_core.planning.row_plan import Job
from rerank_core.types import Passage, Usage

__all__ = ["Outcome", "Scored", "check_finite", "raise_failures", "scores_of_pairs"]


@dataclass(frozen=True)
class Scored:
    """The scores of one job; lists are in the order of the job's documents.

    ``stages`` holds the last cascade stage of each document; a later stage always ranks above an earlier one.
    """

    scores: list[float]
    all_scores: list[dict[str, float]]
    passages: list[tuple[Passage, ...]]
    truncated: list[bool | None]
    stages: list[int]
    usage: Usage
    query_truncated: bool = False
    statistics: Mapping[str, Any] = field(default_factory=dict)


Outcome: TypeAlias = Scored | Exception


def check_finite(outcomes: Sequence[Outcome], jobs: Sequence[Job]) -> list[Outcome]:
    """The outcomes up to the first with a NaN or infinite score; an error that names all such documents replaces it."""
    bad = [
        (job, doc)
        for job, result in zip(jobs, outcomes, strict=False)
        if isinstance(result, Scored)
        for doc, scores in enumerate(result.all_scores)
        if not all(map(math.isfinite, [*scores.values(), *(passage.score for passage in result.passages[doc])]))
    ]
    if not bad:
        return list(outcomes)
    named = [(job.number, doc, job.documents[doc].id) for job, doc in bad[:10]]
    names = ", ".join(
        f"{doc} of query {query}" + ("" if doc_id is None else f" (id {doc_id!r})") for query, doc, doc_id in named
    )
    total = sum(len(job.documents) for job in jobs)
    error = NonFiniteScoreError(
        f"the model gave NaN or infinity for {len(bad)} of {total} documents: {names}; "
        "check its weights for NaN (and dtype: float16 overflows where float32 does not), or the answers of the remote "
        "scorer",
        [(job.number, doc) for job, doc in bad],
    )
    first = next(position for position, job in enumerate(jobs) if job is bad[0][0])
    return [*outcomes[:first], error]


def raise_failures(outcomes: Iterable[Outcome]) -> Iterator[Scored]:
    """The scores of each job; an outcome that is an error is raised when its turn comes."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome


def scores_of_pairs(outcomes: Iterable[Outcome], positions: Sequence[Sequence[int]]) -> list[float]:
    """The raw scores of pairs, in their order.

    Args:
        positions: of each job's documents, the positions of their pairs.

    Raises:
        NonFiniteScoreError: the model gave NaN or infinity; the message names the pairs.
    """
    scores = [0.0] * sum(map(len, positions))
    try:
        for pair_positions, result in zip(positions, raise_failures(outcomes), strict=True):
            for position, score in zip(pair_positions, result.scores, strict=True):
                scores[position] = score
    except NonFiniteScoreError as error:
        bad = [positions[job][doc] for job, doc in error.documents]
        message = f"the model gave NaN or infinity for the pairs {short(bad)}"
        raise NonFiniteScoreError(message, [(position, 0) for position in bad]) from error
    return scores
