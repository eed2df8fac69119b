"""Streams of requests: what was finished comes out before an error, and the error says whose it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from rerank_core import Batch, InputError, NonFiniteScoreError, Output, Permutation, PluginError, Reranker, RerankError
from rerank_core.testing import FakeListRanker, FakeScorer, FakeSeparate, FakeTextScorer, fake_spec

BAD = "poison"


def reranker(scorer: Any) -> Reranker:
    """A reranker around a fake."""
    return Reranker.from_scorer(scorer, fake_spec(max_length=256))


def requests(count: int = 60, bad: int | None = None) -> list[tuple[str, list[str]]]:
    """Requests of three documents, one of which holds the bad word."""
    return [(f"panda {n}", ["a panda", f"bear {n}", BAD if n == bad else "x"]) for n in range(count)]


def taken(stream: Iterator[Any]) -> tuple[list[Any], BaseException | None]:
    """What a stream gave, and what it raised."""
    found: list[Any] = []
    try:
        found.extend(stream)
    except BaseException as error:  # noqa: BLE001 -- KeyboardInterrupt is one of the cases
        return found, error
    return found, None


class NanScorer(FakeScorer):
    """NaN for a document with the bad word."""

    def forward(self, batch: Batch) -> Output:
        poisoned = set(self.tokenize([BAD], "doc")[0].ids)
        scores = list(super().forward(batch).scores["score"])
        return Output(
            {"score": [math.nan if poisoned & set(r.ids) else s for r, s in zip(batch.rows, scores, strict=True)]}
        )


class RaisingScorer(FakeScorer):
    """A forward pass that fails with the bad word in its batch."""

    def forward(self, batch: Batch) -> Output:
        poisoned = set(self.tokenize([BAD], "doc")[0].ids)
        if any(poisoned & set(row.ids) for row in batch.rows):
            raise RuntimeError("an operation failed")
        return super().forward(batch)


class ShortScorer(FakeScorer):
    """Gives too few scores with the bad word in a batch: a plugin's fault."""

    def forward(self, batch: Batch) -> Output:
        poisoned = set(self.tokenize([BAD], "doc")[0].ids)
        scores = list(super().forward(batch).scores["score"])
        return Output({"score": scores[1:] if any(poisoned & set(row.ids) for row in batch.rows) else scores})


class RaisingApi(FakeTextScorer):
    """A remote API that answers one request with an error, and counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        self.asked.append(query)
        if BAD in docs:
            raise RerankError("the endpoint answers HTTP 500")
        return super().score(query, docs)


class NanApi(FakeTextScorer):
    """A remote API that gives NaN."""

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        return [math.nan if BAD in doc else score for doc, score in zip(docs, super().score(query, docs), strict=True)]


class RaisingLists(FakeListRanker):
    """A listwise model that cannot order one list."""

    def rank(self, query: str, docs: Sequence[str]) -> Permutation:
        if BAD in docs:
            raise InputError("the prompt does not fit")
        return super().rank(query, docs)


@pytest.mark.parametrize("bad", [0, 30, 59])
@pytest.mark.parametrize(
    ("scorer", "error"),
    [
        (NanScorer, NonFiniteScoreError),
        (RaisingScorer, RuntimeError),
        (ShortScorer, PluginError),
        (RaisingApi, RerankError),
        (NanApi, NonFiniteScoreError),
        (RaisingLists, InputError),
    ],
)
def test_rankings_before_a_failed_request_are_not_lost(
    scorer: Callable[[], Any], error: type[Exception], bad: int
) -> None:
    """Whatever fails inside the scorer for request 30, the 30 before it are yielded, and the error names it."""
    model = reranker(scorer())
    found, raised = taken(model.rerank_stream(iter(requests(bad=bad))))

    assert [ranking.query for ranking in found] == [f"panda {n}" for n in range(bad)]
    assert type(raised) is error
    said = "".join([str(raised), *getattr(raised, "__notes__", [])])
    assert f"request {bad}" in said or f"query {bad}" in said or not hasattr(raised, "add_note")
    assert [r.scores() for r in found] == [model.rerank(*request).scores() for request in requests()[:bad]]


def test_nothing_is_asked_twice_of_an_api() -> None:
    """A failed request neither repeats those before it nor is tried again."""
    api = RaisingApi()
    taken(reranker(api).rerank_stream(requests(bad=30)))

    assert api.asked == [f"panda {n}" for n in range(31)]


def test_a_request_without_room_is_named_and_the_rest_comes_first() -> None:
    """A query that leaves no room is found when the plan is made; the requests before it are ranked all the same."""
    model = reranker(FakeScorer())
    given = requests(20)
    given[7] = ("panda " * 400, ["x"])
    found, raised = taken(model.rerank_stream(given))

    assert len(found) == 7
    assert isinstance(raised, InputError)
    assert "request 7" in str(raised)


@pytest.mark.parametrize("error", [OSError("the disk is gone"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
@pytest.mark.parametrize("number", [0, 1, 3000])
def test_a_source_that_fails_loses_nothing(error: BaseException, number: int) -> None:
    """All that a source gave before it raised is ranked and yielded; then its own exception comes out."""

    def source() -> Iterator[tuple[str, list[str]]]:
        yield from ((f"panda {n}", ["a panda"]) for n in range(number))
        raise error

    found, raised = taken(reranker(FakeTextScorer()).rerank_stream(source()))

    assert [ranking.query for ranking in found] == [f"panda {n}" for n in range(number)]
    assert raised is error


def test_documents_that_fail_while_they_are_read_lose_nothing() -> None:
    """A request's own documents may be a generator; what it raises comes out after the rankings before it."""

    def documents() -> Iterator[str]:
        yield "a panda"
        raise OSError("the disk is gone")

    found, raised = taken(reranker(FakeScorer()).rerank_stream([*requests(5), ("q", documents())]))  # type: ignore[list-item]

    assert len(found) == 5
    assert isinstance(raised, OSError)


def test_a_closed_stream_ranks_no_more() -> None:
    """Closing a stream neither ranks what waits nor raises."""
    scorer = FakeScorer()
    stream = reranker(scorer).rerank_stream((f"panda {n}", ["a panda"] * 500) for n in range(100))
    next(stream)
    asked = len(scorer.batches)
    stream.close()  # type: ignore[attr-defined]

    assert len(scorer.batches) == asked


def test_an_interrupt_in_the_model_ends_a_stream_at_once() -> None:
    """Ctrl-C while a plan is computed is not taken for a request's fault, and no request is tried alone."""

    class Interrupted(FakeScorer):
        def forward(self, batch: Batch) -> Output:
            self.batches.append(batch)
            raise KeyboardInterrupt

    scorer = Interrupted()
    found, raised = taken(reranker(scorer).rerank_stream(requests()))

    assert (found, type(raised), len(scorer.batches)) == ([], KeyboardInterrupt, 1)


def test_indexes_and_documents_in_one_stream_keep_their_order() -> None:
    """Requests with an index and with documents take turns; a failure among them loses none before it."""

    class Late(FakeSeparate):
        def forward(self, batch: Batch) -> Output:
            poisoned = set(self.tokenize([BAD], "doc")[0].ids)
            if any(poisoned & set(row.ids) for row in batch.rows):
                raise RuntimeError("an operation failed")
            return super().forward(batch)

    model = reranker(Late())
    index = model.index(["a panda", "bear"])
    mixed = [(query, index if n % 2 else docs) for n, (query, docs) in enumerate(requests(10, bad=6))]
    found, raised = taken(model.rerank_stream(mixed))

    assert [ranking.query for ranking in found] == [f"panda {n}" for n in range(6)]
    assert isinstance(raised, RuntimeError)


def test_many_requests_name_the_one_that_failed() -> None:
    """`rerank_many` gives all or nothing; its error says which request, and a single call's says no number."""
    with pytest.raises(RerankError, match=r"^request 30: the endpoint answers HTTP 500$"):
        reranker(RaisingApi()).rerank_many(requests(bad=30))
    with pytest.raises(NonFiniteScoreError, match="2 of query 30"):
        reranker(NanScorer()).rerank_many(requests(bad=30))
    with pytest.raises(RerankError, match=r"^the endpoint answers HTTP 500$"):
        reranker(RaisingApi()).rerank(*requests(bad=0)[0])


def test_requests_that_are_none_are_refused() -> None:
    """Something that cannot be iterated is an InputError."""
    with pytest.raises(InputError, match="requests is None"):
        next(reranker(FakeScorer()).rerank_stream(None))  # type: ignore[arg-type]
