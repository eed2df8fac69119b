"""From what a caller passes to checked jobs, with messages that name the caller's own positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rerank_core.errors import InputError, short
from rerank_core.index.index import Index
from rerank_core.planning.row_plan import Job
from rerank_core.types import Document, documents_of, in_order, query_of

__all__ = ["job_of", "jobs_of_pairs", "requests_in"]


def job_of(request: object, owner: object, number: int | None = None) -> Job:
    """One ``(query, documents)``, checked.

    Args:
        owner: what an `Index` among the documents must have been made for.
        number: position in the caller's list of requests; None where there is only one.

    Raises:
        InputError: a request, query or document that cannot be used, or a foreign index.
    """
    query, documents = _two(request, f"request {number}", "(query, documents)")
    checked = query_of(query, "the query" if number is None else f"query {number}")
    if isinstance(documents, Index):
        if documents.owner != owner:
            raise InputError(f"{documents!r} was made by another reranker; make it with this one's index()")
        return Job(checked, documents, number or 0)
    return Job(checked, documents_of(documents, "" if number is None else f" of query {number}"), number or 0)


def requests_in(requests: object) -> Iterator[Any]:
    """The caller's requests, one after the other, still unchecked.

    Raises:
        InputError: something that gives no requests in an order.
    """
    return in_order(requests, "requests", "a list of (query, documents)")


def jobs_of_pairs(pairs: Iterable[object]) -> tuple[list[Job], list[list[int]]]:
    """``(query, document)`` pairs as one job a query, and for each job's documents the positions of their pairs.

    Raises:
        InputError: a pair, query or document that cannot be used.
    """
    given = in_order(pairs, "pairs", "a list of (query, document)")
    asked: dict[str, list[tuple[int, Document]]] = {}
    for place, pair in enumerate(given):
        query, document = _two(pair, f"pair {place}", "(query, document)")
        checked = query_of(query, f"the query of pair {place}")
        asked.setdefault(checked, []).append((place, Document.of(document, f"the document of pair {place}")))
    jobs = [
        Job(query, [document for _, document in wanted], number) for number, (query, wanted) in enumerate(asked.items())
    ]
    return jobs, [[place for place, _ in wanted] for wanted in asked.values()]


def _two(value: Any, where: str, what: str) -> tuple[Any, Any]:
    """The two items of a pair, a list of two or a row of an array; never the two letters of a string."""
    try:
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError
        one, other = value
    except (TypeError, ValueError):
        raise InputError(f"{where} is {short(value)}; it must be {what}") from None
    return one, other
