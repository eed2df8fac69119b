"""Documents encoded before any query is known: `Index`, for scorers that are `Indexable` (late interaction)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from rerank_core import batching
from rerank_core.errors import InputError
from rerank_core.rows import Job, QueryRows, RowPlan, Rules, Window
from rerank_core.scorer import NO_TOKENS, Indexable, Output, QueryRow, Scorer
from rerank_core.types import Document

__all__ = ["Index", "IndexPlan", "build"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One encoded window: its characters in the document, the length of its row, its opaque embedding."""

    chars: tuple[int, int]
    length: int
    embedding: Any


@dataclass(frozen=True)
class Index(Sequence[Document]):
    """Documents with their embeddings, in memory. Give it to ``rerank`` in place of the documents.

    Made by ``Reranker.index``; opaque, and good only for the reranker that made it.
    """

    documents: tuple[Document, ...]
    owner: object
    _entries: tuple[tuple[_Entry, ...], ...]
    _truncated: tuple[bool, ...]

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | Sequence[Document]:
        return self.documents[index]

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __repr__(self) -> str:
        return f"Index({len(self.documents)} documents, {sum(map(len, self._entries))} passages)"


def build(scorer: Scorer, documents: Sequence[Document], rules: Rules, owner: object) -> Index:
    """Encode every window of every document.

    Raises:
        InputError: a scorer whose rows hold the query.
    """
    if not isinstance(scorer, Indexable) or scorer.layout != "separate":
        raise InputError("this model reads query and document together, so documents cannot be indexed without a query")
    # The layout is `separate`, so no row holds the query: any query will do to plan the documents' windows.
    plan = RowPlan(scorer, [Job("", documents)], rules)
    lengths = [window.length for window in plan.windows]
    embeddings: list[Any] = [None] * len(lengths)
    budget = rules.token_budget or scorer.token_budget
    for positions in batching.plan(lengths, [0] * len(lengths), {}, budget=budget, packed=scorer.packed):
        encoded = scorer.encode([plan.row(plan.windows[position]) for position in positions])
        for position, embedding in zip(positions, encoded, strict=True):
            embeddings[position] = embedding
    entries: list[list[_Entry]] = [[] for _ in documents]
    for window, embedding in zip(plan.windows, embeddings, strict=True):
        entries[window.doc].append(_Entry(plan.chars(window), window.length, embedding))
    return Index(
        documents=tuple(documents),
        owner=owner,
        _entries=tuple(map(tuple, entries)),
        _truncated=tuple(plan.truncated(0, doc) for doc in range(len(documents))),
    )


class IndexPlan:
    """The windows of an index; a forward pass is only the match."""

    def __init__(self, scorer: Scorer, query: str, index: Index, rules: Rules) -> None:
        assert isinstance(scorer, Indexable)
        self._scorer = scorer
        self._index = index
        queries = QueryRows(scorer, [query], rules)
        queries.room(scorer, 0, NO_TOKENS, rules.max_length)
        self.query_rows: Mapping[int, QueryRow] = queries.rows
        self.query_truncated: Sequence[bool] = queries.truncated
        self.windows: Sequence[Window] = [
            Window(0, doc, number, 0, entry.length, entry.length)
            for doc, entries in enumerate(index._entries)
            for number, entry in enumerate(entries)
        ]

    def _entry(self, window: Window) -> _Entry:
        return self._index._entries[window.doc][window.number]

    def forward(self, positions: Sequence[int]) -> Output:
        items = [(0, self._entry(self.windows[position]).embedding) for position in positions]
        return self._scorer.match(self.query_rows, items)

    def chars(self, window: Window) -> tuple[int, int]:
        return self._entry(window).chars

    def truncated(self, query: int, doc: int) -> bool:
        return self._index._truncated[doc]
