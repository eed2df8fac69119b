"""`stream`: ranks endless requests in groups; when a request fails, the rankings of earlier ones are not lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rerank_core.planning.row_plan import Job

__all__ = ["stream"]

_PLAN_DOCUMENTS = 1024
"""About how many documents are ranked in one plan."""

_Request = TypeVar("_Request")
_Ranking = TypeVar("_Ranking")


def stream(
    requests: Iterator[_Request],
    job_of: Callable[[_Request, int], Job],
    rank: Callable[[Sequence[Job]], Iterator[_Ranking]],
) -> Iterator[_Ranking]:
    """The rankings of the requests, in order.

    An error that ``requests`` or ``job_of`` raises (Ctrl-C included) is raised unchanged after the rankings of all
    requests before it.

    Args:
        job_of: checks a request; its second argument is the request's number.
        rank: yields the rankings of jobs in order; it raises the error of a failed job after the rankings before it.
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
