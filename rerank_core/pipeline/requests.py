"""From the caller's requests to checked jobs; messages name the positions in the caller's lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rerank_core.errors import InputError, short
from rerank_core.index.index import Index
from rerank_core.planning.row_plan import Job
from rerank_core.types import Document, documents_of, in_order, query_of

__all__ = ["job_of", "jobs_of_pairs", "requests_in"]


def job_of(request: object, owner: object, number: int | None = None) -> Job:
    """The job of one ``(query, documents)`` request.

    Args:
        owner: the identity of the reranker; an `Index` given as documents must have the same owner.
        number: the position in the caller's list of requests; None where there is only one request.

    Raises:
        InputError: the request, query or a document is invalid, or the index was made by another reranker.
    """
    query, documents = _two_items(request, f"request {number}", "(query, documents)")
    checked = query_of(query, "the query" if number is None else f"query {number}")
    if isinstance(documents, Index):
        if documents.owner != owner:
            raise InputError(f"{documents!r} was made by another reranker; make it with this one's index()")
        return Job(checked, documents, number or 0)
    return Job(checked, documents_of(documents, "" if number is None else f" of query {number}"), number or 0)


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
        query, document = _two_items(pair, f"pair {position}", "(query, document)")
        checked = query_of(query, f"the query of pair {position}")
        by_query.setdefault(checked, []).append((position, Document.of(document, f"the document of pair {position}")))
    jobs = [
        Job(query, [document for _, document in items], number)
        for number, (query, items) in enumerate(by_query.items())
    ]
    return jobs, [[position for position, _ in items] for items in by_query.values()]


def _two_items(value: Any, where: str, what: str) -> tuple[Any, Any]:
    """The two items of a tuple, a list or a row of an array; a string of two letters is refused."""
    try:
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError
        first, second = value
    except (TypeError, ValueError):
        raise InputError(f"{where} is {short(value)}; it must be {what}") from None
    return first, second
