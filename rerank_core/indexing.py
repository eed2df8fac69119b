"""Documents encoded before any query is known: `Index`, for scorers that are `Indexable` (late interaction)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from rerank_core.errors import InputError
from rerank_core.rows import Job, QueryRows, RowPlan, Rules, Window
from rerank_core.scorer import NO_TOKENS, Indexable, Output, QueryRow, Scorer
from rerank_core.types import Document

__all__ = ["Index", "IndexPlan", "build"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One encoded window: its characters in the document, its opaque embedding."""

    chars: tuple[int, int]
    embedding: Any


@dataclass(frozen=True)
class Index(Sequence[Document]):
    """Documents with their embeddings, in memory. Give it to ``rerank`` in place of the documents.

    Made by ``Reranker.index``; opaque, and good only for rerankers that would make the same (``owner`` says which).
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
        raise InputError(
            f"{type(scorer).__name__} reads query and document together, so documents cannot be indexed without a "
            "query; use rerank, or a late-interaction model"
        )
    # The layout is `separate`, so no row holds the query: any query will do to plan the documents' windows.
    plan = RowPlan(scorer, [Job("", documents)], rules)
    embeddings: list[Any] = [None] * len(plan.windows)
    for positions in plan.batches():
        encoded = scorer.encode([plan.row(plan.windows[position]) for position in positions])
        for position, embedding in zip(positions, encoded, strict=True):
            embeddings[position] = embedding
    for position, original in plan.copies.items():
        embeddings[position] = embeddings[original]
    entries: list[list[_Entry]] = [[] for _ in documents]
    for window, embedding in zip(plan.windows, embeddings, strict=True):
        entries[window.doc].append(_Entry(plan.chars(window), embedding))
    return Index(
        documents=tuple(documents),
        owner=owner,
        _entries=tuple(map(tuple, entries)),
        _truncated=tuple(plan.truncated(0, doc) for doc in range(len(documents))),
    )


class IndexPlan:
    """The windows of an index. Nothing of a document is computed, so they cost no tokens and make one batch."""

    def __init__(self, scorer: Scorer, job: Job, index: Index, rules: Rules) -> None:
        assert isinstance(scorer, Indexable)
        self._scorer = scorer
        self._index = index
        queries = QueryRows(scorer, [job], rules)
        queries.room(scorer, 0, NO_TOKENS, rules.max_length)
        self.query_rows: Mapping[int, QueryRow] = queries.rows
        self.query_truncated: Sequence[bool] = queries.truncated
        self.copies: Mapping[int, int] = {}
        self.windows: Sequence[Window] = [
            Window(0, doc, number, 0, 0, length=0)
            for doc, entries in enumerate(index._entries)
            for number in range(len(entries))
        ]

    def _entry(self, window: Window) -> _Entry:
        return self._index._entries[window.doc][window.number]

    def batches(self) -> list[list[int]]:
        return [list(range(len(self.windows)))] if self.windows else []

    def forward(self, positions: Sequence[int]) -> Output:
        items = [(0, self._entry(self.windows[position]).embedding) for position in positions]
        return self._scorer.match(self.query_rows, items)

    def chars(self, window: Window) -> tuple[int, int]:
        return self._entry(window).chars

    def truncated(self, query: int, doc: int) -> bool:
        return self._index._truncated[doc]
