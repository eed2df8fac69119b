"""Fake scorers, one for each scorer protocol and layout, which count shared words. None of them needs torch.

The score of a passage is the share of its words that occur in the query. So rankings are plausible, different passages
of a document have different scores, and a test fails if the core drops or reorders a row.
"""

from __future__ import annotations

import math
import re
import zlib
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rerank_core.scorer import Batch, Layout, Output, Permutation, QueryRow, Row, Tokens
from rerank_core.spec import Head, ModelSpec

__all__ = ["FakeCascade", "FakeListRanker", "FakeScorer", "FakeSeparate", "FakeTextScorer", "fake_spec"]

_WORD = re.compile(r"[\u3400-\u9fff]|\w+|[^\w\s]")
_START, _SEPARATOR = 1, 2
_FIRST_WORD = 10


def fake_spec(name: str = "fake", **changes: Any) -> ModelSpec:
    """A `ModelSpec` for a fake scorer: 64 tokens per row; ``changes`` sets or replaces fields."""
    return ModelSpec(**{"name": name, "head": Head.classifier(), "max_length": 64, **changes})


def _tokens(text: str) -> Tokens:
    words = list(_WORD.finditer(text))
    return Tokens(
        array("i", [_FIRST_WORD + _hash(word.group().lower()) for word in words]),
        array("I", [word.start() for word in words]),
        array("I", [word.end() for word in words]),
    )


def _hash(word: str) -> int:
    return zlib.crc32(word.encode("utf-8", "replace")) % 50_000


def _overlap(query: Sequence[int], passage: Sequence[int]) -> float:
    """Shared words over the square root of the passage's length; earlier words weigh more, so that order matters."""
    query_words = {id_ for id_ in query if id_ >= _FIRST_WORD}
    hits = sum(1.0 + 1.0 / (2 + position) for position, id_ in enumerate(passage) if id_ in query_words)
    return hits / math.sqrt(1.0 + len(passage))


class FakeScorer:
    """A fake `Scorer` with the layout of a cross-encoder (``joint``) or of a causal model (``prefix``).

    Attributes:
        batches: every batch that ``forward`` received, so that tests can inspect them.
        closed: whether ``close`` was called.
    """

    packed = False
    max_positions: int | None = None

    def __init__(self, layout: Layout = "joint", token_budget: int = 256) -> None:
        self.layout: Layout = layout
        self.token_budget = token_budget
        self.batches: list[Batch] = []
        self.closed = False

    def tokenize(self, texts: Sequence[str], side: Literal["query", "doc"]) -> list[Tokens]:
        return [_tokens(text) for text in texts]

    def identity(self) -> Mapping[str, Any]:
        return {"fake": type(self).__name__, "layout": self.layout}

    def token_key(self, side: Literal["query", "doc"]) -> str:
        return "words"

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return len(query) + 3 if self.layout == "joint" else 1

    def query_row(self, query: Tokens) -> QueryRow | None:
        return None if self.layout == "joint" else QueryRow([_START, *query.ids])

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        left = [_START, *query.ids, _SEPARATOR] if self.layout == "joint" else []
        span = (len(left), len(left) + stop - start)
        return Row(*owner, ids=[*left, *doc.ids[start:stop], _SEPARATOR], types=None, segment=span, span=span)

    def forward(self, batch: Batch) -> Output:
        self.batches.append(batch)
        return Output({"score": [self._score(batch, row) for row in batch.rows]})

    def _score(self, batch: Batch, row: Row) -> float:
        query = row.ids[: row.span[0]] if self.layout == "joint" else batch.queries[row.query].ids
        return _overlap(query, row.ids[slice(*row.span)])

    def close(self) -> None:
        self.closed = True


class FakeSeparate(FakeScorer):
    """A fake late-interaction scorer (layout ``separate``, `Indexable`): documents are encoded without the query."""

    def __init__(self, token_budget: int = 256) -> None:
        super().__init__("separate", token_budget)

    def encode(self, rows: Sequence[Row]) -> list[Sequence[int]]:
        return [row.ids[slice(*row.span)] for row in rows]

    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Any]]) -> Output:
        return Output({"score": [_overlap(queries[query].ids, embedding) for query, embedding in items]})


class FakeCascade(FakeScorer):
    """A fake cascade (`Resumable`): the first stage counts shared words, later stages score the rows that are kept.

    Attributes:
        keep: how many documents of each query go on after each stage.
        resumed: for each call of ``resume``, the document positions of its rows.
    """

    def __init__(self, keep: Sequence[int], token_budget: int = 256) -> None:
        super().__init__("joint", token_budget)
        self.keep = keep
        self.resumed: list[list[int]] = []

    def forward(self, batch: Batch) -> Output:
        self.batches.append(batch)
        counts = [float(len(set(row.ids[: row.span[0]]) & set(row.ids[slice(*row.span)]))) for row in batch.rows]
        return Output({"early": counts}, state=(1, list(batch.rows)))

    def resume(self, state: Any, rows: Sequence[int]) -> Output:
        stage, previous = state
        kept = [previous[position] for position in rows]
        self.resumed.append([row.doc for row in kept])
        scores = [_overlap(row.ids[: row.span[0]], row.ids[slice(*row.span)]) for row in kept]
        return Output({f"late-{stage}": scores}, state=(stage + 1, kept))


class FakeTextScorer:
    """A fake `TextScorer`, like a remote API: takes texts and returns one score per document."""

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        return [_overlap(_tokens(query).ids, _tokens(doc).ids) for doc in docs]


class FakeListRanker:
    """A fake `ListRanker`: returns an order of the documents without scores."""

    def rank(self, query: str, docs: Sequence[str]) -> Permutation:
        scores = FakeTextScorer().score(query, docs)
        order = sorted(range(len(docs)), key=lambda position: (-scores[position], position))
        return Permutation(order, {"calls": 1, "repaired": 0})
