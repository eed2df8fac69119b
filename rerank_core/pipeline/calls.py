"""`Calls`: the calls that every kind of reranker has."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

from rerank_core.errors import RerankError
from rerank_core.options import CallOptions
from rerank_core.pipeline import streaming
from rerank_core.pipeline.requests import requests_in
from rerank_core.planning.row_plan import Job
from rerank_core.progress import Progress
from rerank_core.types import Ranking

__all__ = ["Calls"]

_Self = TypeVar("_Self", bound="Calls")


class Calls(ABC):
    """One query, many queries, endless input and coroutines, on top of `_rank`."""

    @abstractmethod
    def _call_options(self, options: dict[str, Any]) -> CallOptions:
        """The checked options of a call."""

    @abstractmethod
    def _job(self, request: object, call: CallOptions, number: int | None = None) -> Job:
        """The checked job of a request; ``number`` is its position in the caller's list, None where it is alone."""

    @abstractmethod
    def _rank(
        self,
        jobs: Sequence[Job],
        call: CallOptions,
        progress: Progress | None = None,
        *,
        numbered: bool = False,
        retry_alone: bool = False,
    ) -> Iterator[Ranking]:
        """Rankings in the order of the jobs; the error of a failed job is raised after those before it."""

    @abstractmethod
    def close(self) -> None:
        """Free the weights."""

    def rerank(
        self, query: str, documents: Iterable[object], *, first_stage: Iterable[Any] | None = None, **options: Any
    ) -> Ranking:
        """Rank documents for a query.

        Args:
            documents: strings, mappings with ``text``, `Document` objects, or an `Index`. They are never changed, and
                every document gets a score.
            first_stage: with ``combine=``, the retriever's score of each document, None where it has none; by default
                they are read from the documents' metadata.
            options: see `CallOptions`: ``top_k``, ``min_score``, ``combine``, ``longdoc``, ``overlap``,
                ``activation``, ``explain``, ``progress``, and the model's call options.

        Raises:
            InputError: a query, document, score or option is invalid.
            NonFiniteScoreError: the model returned NaN or infinity.
        """
        call = self._call_options(options)
        return next(self._rank([self._job(_request(query, documents, first_stage), call)], call))

    def rerank_many(self, requests: Iterable[Sequence[Any]], **options: Any) -> list[Ranking]:
        """Rank several ``(query, documents)`` requests, batched together; one `Ranking` per request, in order.

        A request may be ``(query, documents, first_stage)``; see `rerank`.
        """
        call = self._call_options(options)
        jobs = [self._job(request, call, number) for number, request in enumerate(requests_in(requests))]
        return list(self._rank(jobs, call, numbered=True))

    def rerank_stream(self, requests: Iterable[Sequence[Any]], **options: Any) -> Iterator[Ranking]:
        """Rank an endless or very large iterable of requests in bounded memory: about a thousand documents at a time,
        rankings in order. Where a request fails or the iterable raises, the rankings of all earlier requests are
        yielded first, then the error is raised. Requests are those of `rerank_many`."""
        call = self._call_options(options)
        return streaming.stream(
            requests_in(requests),
            lambda request, number: self._job(request, call, number),
            lambda jobs: self._rank(jobs, call, numbered=True, retry_alone=True),
        )

    async def arerank(
        self, query: str, documents: Iterable[object], *, first_stage: Iterable[Any] | None = None, **options: Any
    ) -> Ranking:
        """`rerank` in a worker thread; cancelling the task stops the thread between two batches."""
        # Importing asyncio takes as long as importing this package; a caller that awaits has imported it already.
        import asyncio

        call = self._call_options(options)
        job = self._job(_request(query, documents, first_stage), call)
        stop = threading.Event()

        def stop_if_cancelled(done: int, total: int) -> None:
            if stop.is_set():
                raise _CancelledError

        try:
            return await asyncio.to_thread(lambda: next(self._rank([job], call, stop_if_cancelled)))
        except asyncio.CancelledError:
            stop.set()
            raise

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _request(query: object, documents: object, first_stage: object) -> tuple[object, ...]:
    return (query, documents) if first_stage is None else (query, documents, first_stage)


class _CancelledError(RerankError):
    """Ends the worker thread of a cancelled `Calls.arerank`; no caller sees it."""
