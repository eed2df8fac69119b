"""Requests without an end, ranked some at a time: nothing that was finished is lost when one of them fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rerank_core.planning.row_plan import Job

__all__ = ["stream"]

_PLAN_DOCUMENTS = 1024
"""Documents that are ranked in one plan, about."""

_Request = TypeVar("_Request")
_Ranking = TypeVar("_Ranking")


def stream(
    requests: Iterator[_Request],
    job_of: Callable[[_Request, int], Job],
    rank: Callable[[Sequence[Job]], Iterator[_Ranking]],
) -> Iterator[_Ranking]:
    """Rankings of the requests, in their order.

    Whatever ``requests`` or ``job_of`` raises (Ctrl-C too) comes out as it is, after the rankings of what was read
    before.

    Args:
        job_of: checks a request, given its number.
        rank: gives the rankings of jobs in order, as far as they came, before it raises.
    """
    number = waiting = 0
    jobs: list[Job] = []
    while True:
        try:
            job = job_of(next(requests), number)
        except BaseException as error:
            yield from rank(jobs)
            if isinstance(error, StopIteration):
                return
            raise
        number += 1
        jobs.append(job)
        waiting += max(1, len(job.documents))
        if waiting >= _PLAN_DOCUMENTS:
            yield from rank(jobs)
            jobs, waiting = [], 0
