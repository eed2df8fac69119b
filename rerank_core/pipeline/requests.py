"""From the caller's requests to checked jobs; messages name the positions in the caller's lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from rerank_core.combine import Combine
from rerank_core.errors import InputError, short
from rerank_core.index.index import Index
from rerank_core.pipeline.first_stage import first_stage_of
from rerank_core.planning.row_plan import Job
from rerank_core.types import Document, documents_of, in_order, query_of

__all__ = ["job_of", "jobs_of_pairs", "requests_in"]


def job_of(
    request: object,
    owner: object,
    number: int | None = None,
    combine: Combine | None = None,
    otherwise: Combine | None = None,
) -> Job:
    """The job of one ``(query, documents)`` or ``(query, documents, first_stage)`` request.

    Args:
        owner: the identity of the reranker; an `Index` given as documents must have the same owner. None where the
            reranker takes no index.
        number: the position in the caller's list of requests; None where there is only one request.
        combine: how the first stage's scores are used; None if they are not.
        otherwise: the same, where ``combine`` is None and the request has scores of the first stage.

    Raises:
        InputError: the request, query, a document or a score of the first stage is invalid, or the index was made by
            another reranker.
    """
    items = _items(request, f"request {number}", (2, 3), "(query, documents) or (query, documents, first_stage)")
    query, documents = items[:2]
    of = "" if number is None else f" of query {number}"
    checked = query_of(query, "the query" if number is None else f"query {number}")
    if not isinstance(documents, Index):
        documents = documents_of(documents, of)
    elif documents.owner != owner or owner is None:
        made = "make it with this one's index()" if owner else "an ensemble takes the documents: list(index)"
        raise InputError(f"{documents!r} was made by another reranker; {made}")
    given = items[2] if len(items) == 3 else None
    first_stage = first_stage_of(documents, given, combine or (None if given is None else otherwise), of)
    return Job(checked, documents, number or 0, first_stage)


def requests_in(requests: object) -> Iterator[Any]:
    """An iterator over the caller's requests, which are not checked yet.

    Raises:
        InputError: ``requests`` is no ordered iterable.
    """
    return in_order(requests, "requests", "a list of (query, documents)")


def jobs_of_pairs(pairs: Iterable[object]) -> tuple[list[Job], list[list[int]]]:
    """``(query, document)`` pairs as one job per query, and for each job's documents the positions of their pairs.

    Raises:
        InputError: a pair, query or document is invalid.
    """
    by_query: dict[str, list[tuple[int, Document]]] = {}
    for position, pair in enumerate(in_order(pairs, "pairs", "a list of (query, document)")):
        query, document = _items(pair, f"pair {position}", (2,), "(query, document)")
        checked = query_of(query, f"the query of pair {position}")
        by_query.setdefault(checked, []).append((position, Document.of(document, f"the document of pair {position}")))
    jobs = [
        Job(query, [document for _, document in items], number)
        for number, (query, items) in enumerate(by_query.items())
    ]
    return jobs, [[position for position, _ in items] for items in by_query.values()]


def _items(value: Any, where: str, counts: tuple[int, ...], what: str) -> list[Any]:
    """The items of a tuple, a list or a row of an array; a string of two letters is refused."""
    try:
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError
        items = list(islice(value, max(counts) + 1))  # it may be an endless iterator
        if len(items) not in counts:
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"{where} is {short(value)}; it must be {what}") from None
    return items
