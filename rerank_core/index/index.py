"""Documents encoded before any query is known: `Index`, for scorers that are `Indexable` (late interaction)."""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from rerank_core.errors import IndexStoreError, InputError, short
from rerank_core.index.protocols import Indexable, Storable, StoredText, StoredWindow
from rerank_core.planning.row_plan import Job, QueryRows, RowPlan, Rules, Window
from rerank_core.progress import Progress
from rerank_core.scorer import NO_TOKENS, Output, QueryRow, Scorer
from rerank_core.types import Document, in_order

__all__ = ["Index", "IndexPlan", "build_index"]

# Documents that are encoded and put away together; what is put away in a folder outlives an interruption.
_SHARD_DOCUMENTS = 4096


@dataclass(frozen=True, eq=False)
class Index(Sequence[Document]):
    """Documents with their embeddings. Give it to ``rerank`` in place of the documents.

    Made by ``Reranker.index``; opaque, and good only for rerankers that would make the same (``owner`` says which).

    Attributes:
        precision: what the embeddings are kept in.
        drift: how far that moved them, as the length of the difference of vectors, ``mean`` and ``max``: between unit
            vectors no similarity is further off. Empty for ``float32``, which is exact.
    """

    documents: tuple[Document, ...]
    owner: object
    precision: str
    drift: Mapping[str, float]
    _stored: tuple[StoredText, ...]

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
        passages = sum(len(shelved.windows) for shelved in self._stored)
        return f"Index({len(self.documents)} documents, {passages} passages, {self.precision})"

    @functools.cached_property
    def _windows(self) -> list[Window]:
        """What every query's plan begins with; a thousand documents take as long to list as to compare."""
        return [
            Window(0, doc, number, *window.tokens, length=0)
            for doc, shelved in enumerate(self._stored)
            for number, window in enumerate(shelved.windows)
        ]

    @functools.cached_property
    def _embeddings(self) -> list[Any]:
        return [window.embedding for shelved in self._stored for window in shelved.windows]

    def select(self, places: Iterable[int]) -> Index:
        """The documents at these places, in this order: candidates that a first stage found. Hits count from this
        selection.

        Raises:
            InputError: a place that is none of the index.
        """
        given = in_order(places, "places", "a list of positions in the index")
        chosen = [_place(place, self) for place in given]
        return replace(
            self,
            documents=tuple(self.documents[place] for place in chosen),
            _stored=tuple(self._stored[place] for place in chosen),
        )


def _place(value: Any, index: Index) -> int:
    try:
        place = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        place = -1
    if not 0 <= place < len(index):
        raise InputError(f"{short(value)} is no place in {index!r}; places are 0 to {len(index) - 1}")
    return place


def build_index(
    scorer: Scorer,
    documents: Sequence[Document],
    rules: Rules,
    owner: object,
    *,
    directory: str | None = None,
    precision: str | None = None,
    identity: Mapping[str, Any],
    progress: Progress,
) -> Index:
    """Encode every window of every document that the shelf does not hold.

    Raises:
        InputError: a scorer whose rows hold the query, or one that cannot keep what it encoded.
        IndexStoreError: a folder that is damaged or was made by another model.
    """
    if not isinstance(scorer, Indexable) or scorer.layout != "separate":
        raise InputError(
            f"{type(scorer).__name__} reads query and document together, so documents cannot be indexed without a "
            "query; use rerank, or a late-interaction model"
        )
    if isinstance(scorer, Storable):
        shelf = scorer.store(directory, precision, identity)
    elif directory is None and precision in (None, "float32"):
        shelf = _PlainShelf()
    else:
        raise InputError(f"{type(scorer).__name__} keeps embeddings only in memory and as they are")
    digests = [hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest() for document in documents]
    missing = {
        digest: document for digest, document in zip(digests, documents, strict=True) if shelf.find(digest) is None
    }
    todo = list(missing.items())
    for start in range(0, len(todo), _SHARD_DOCUMENTS):
        some = todo[start : start + _SHARD_DOCUMENTS]

        def part_progress(done: int, total: int, start: int = start, count: int = len(some)) -> None:
            progress(start + done * count // max(1, total), len(todo))

        found = _encode(scorer, [document for _, document in some], rules, part_progress)
        shelf.add(dict(zip([digest for digest, _ in some], found, strict=True)))
    shelved = [shelf.find(digest) for digest in digests]
    for number, (document, own) in enumerate(zip(documents, shelved, strict=True)):
        if own is not None and directory is not None:
            _check_spans(own, document, number, directory)
    return Index(
        documents=tuple(documents),
        owner=owner,
        precision=shelf.precision,
        drift=shelf.drift,
        _stored=tuple(own for own in shelved if own is not None),
    )


def _check_spans(shelved: StoredText, document: Document, number: int, directory: str) -> None:
    """Refuse windows that cannot be of this text.

    Raises:
        IndexStoreError: characters or tokens beyond its end, or a part that no window has though all was read.
    """
    length = len(document.text)
    chars = [window.chars for window in shelved.windows]
    last = max(stop for _, stop in chars)
    whole = chars[0][0] == 0 and last == length
    # The longest compatibility form of a character has 18 characters of 3 bytes, of which each may be a token.
    most = 64 * (length + 1)
    if last > length or shelved.windows[-1].tokens[1] > most or not (whole or shelved.truncated):
        raise IndexStoreError(
            f"{directory!r} holds the characters {chars[0][0]} to {last} and {shelved.windows[-1].tokens[1]} tokens of "
            f"document {number}, whose text has {length} characters; make the index again in another folder"
        )


def _encode(scorer: Scorer, documents: Sequence[Document], rules: Rules, progress: Progress) -> list[StoredText]:
    assert isinstance(scorer, Indexable)
    # The layout is `separate`, so no row holds the query: any query will do to plan the documents' windows.
    plan = RowPlan(scorer, [Job("", documents)], rules, deduplicate=False)
    embeddings: list[Any] = [None] * len(plan.windows)
    done = 0
    for positions in plan.batches():
        encoded = scorer.encode([plan.row(plan.windows[position]) for position in positions])
        for position, embedding in zip(positions, encoded, strict=True):
            embeddings[position] = embedding
        done += len(positions)
        progress(done, len(plan.windows))
    windows: list[list[StoredWindow]] = [[] for _ in documents]
    for window, embedding in zip(plan.windows, embeddings, strict=True):
        windows[window.doc].append(StoredWindow((window.start, window.stop), plan.chars(window), embedding))
    return [StoredText(own, plan.truncated(0, doc)) for doc, own in enumerate(windows)]


class _PlainShelf:
    """Embeddings as they are, for a scorer that has no shelf of its own."""

    precision = "float32"

    def __init__(self) -> None:
        self.drift: Mapping[str, float] = {}
        self._held: dict[bytes, StoredText] = {}

    def find(self, digest: bytes) -> StoredText | None:
        return self._held.get(digest)

    def add(self, texts: Mapping[bytes, StoredText]) -> None:
        self._held.update(texts)


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
        self.duplicates: Mapping[int, int] = {}
        self.windows: Sequence[Window] = index._windows

    def embedding(self, window: Window) -> Any:
        """What the index holds of a window."""
        return self._index._stored[window.doc].windows[window.number].embedding

    def spans(self, doc: int) -> list[tuple[int, int]]:
        """The tokens of a document's windows."""
        return [window.tokens for window in self._index._stored[doc].windows]

    def batches(self) -> list[list[int]]:
        return [list(range(len(self.windows)))] if self.windows else []

    def forward(self, positions: Sequence[int]) -> Output:
        embeddings = self._index._embeddings
        return self._scorer.match(self.query_rows, [(0, embeddings[position]) for position in positions])

    def chars(self, window: Window) -> tuple[int, int]:
        return self._index._stored[window.doc].windows[window.number].chars

    def truncated(self, query: int, doc: int) -> bool:
        return self._index._stored[doc].truncated
