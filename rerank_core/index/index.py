"""`Index`: documents encoded once for many queries, for scorers that are `Indexable` (late interaction)."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

from rerank_core.errors import IndexStoreError, InputError, one_of, short
from rerank_core.index.protocols import Indexable, Storable, StoredText, StoredWindow
from rerank_core.planning.parallel import compute_all
from rerank_core.planning.row_plan import Job, QueryRows, RowPlan, Rules, Window
from rerank_core.progress import Progress
from rerank_core.scorer import NO_TOKENS, Output, QueryRow, Scorer
from rerank_core.types import Document, in_order

__all__ = ["Index", "IndexPlan", "build_index"]

# Documents that are encoded and stored together; documents stored in a folder survive an interruption.
_SHARD_DOCUMENTS = 4096


@dataclass(frozen=True, eq=False)
class Index(Sequence[Document]):
    """Documents with their embeddings, to pass to ``rerank`` in place of the documents.

    ``Reranker.index`` makes it. It fits only rerankers with the same model and settings (``owner``).

    Attributes:
        precision: the number format of the stored embeddings.
        drift: the error of that format, ``mean`` and ``max`` of the norm of the difference between stored and exact
            vectors. A similarity of unit vectors changes by no more. Empty for ``float32``, which is exact.
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
        passages = sum(len(text.windows) for text in self._stored)
        return f"Index({len(self.documents)} documents, {passages} passages, {self.precision})"

    @functools.cached_property
    def _windows(self) -> list[Window]:
        """The windows of a plan for any query, cached: listing them takes as long as comparing their embeddings."""
        return [
            Window(0, doc, number, *window.tokens, length=0)
            for doc, text in enumerate(self._stored)
            for number, window in enumerate(text.windows)
        ]

    @functools.cached_property
    def _embeddings(self) -> list[Any]:
        return [window.embedding for text in self._stored for window in text.windows]

    def select(self, positions: Iterable[int]) -> Index:
        """An index of the documents at these positions, in this order, such as the candidates of a first-stage search.
        ``Hit.index`` refers to the selection.

        Raises:
            InputError: a position is outside the index.
        """
        selected = [
            _checked_position(position, self)
            for position in in_order(positions, "positions", "a list of positions in the index")
        ]
        return replace(
            self,
            documents=tuple(self.documents[position] for position in selected),
            _stored=tuple(self._stored[position] for position in selected),
        )


def _checked_position(value: Any, index: Index) -> int:
    try:
        position = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        position = -1
    if not 0 <= position < len(index):
        raise InputError(f"{short(value)} is no position in {index!r}; positions are 0 to {len(index) - 1}")
    return position


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
    """Encode every window of every document that is not stored yet, and make an index of all documents.

    Args:
        owner: identifies the model and settings; `Index.owner`.
        directory: the folder of the embeddings; None to store them in memory.
        identity: settings as plain data, which must equal those the folder was made with.

    Raises:
        InputError: the scorer's rows hold the query, or the scorer cannot store embeddings in this way.
        IndexStoreError: the folder is damaged, or was made by another model or with other settings.
    """
    import hashlib  # takes 10 ms, and importing rerank_core does not need it

    one_of(precision, (None, "float32", "float16", "int8"), "precision")
    if not isinstance(scorer, Indexable) or scorer.layout != "separate":
        raise InputError(
            f"{type(scorer).__name__} reads query and document together, so documents cannot be indexed without a "
            "query; use rerank, or a late-interaction model"
        )
    if isinstance(scorer, Storable):
        store = scorer.store(directory, precision, identity)
    elif directory is None and precision in (None, "float32"):
        store = _MemoryStore()
    else:
        raise InputError(f"{type(scorer).__name__} stores embeddings only in memory and in float32")
    digests = [hashlib.sha256(document.text.encode("utf-8", "surrogatepass")).digest() for document in documents]
    missing = {
        digest: document for digest, document in zip(digests, documents, strict=True) if store.find(digest) is None
    }
    to_encode = list(missing.items())
    for start in range(0, len(to_encode), _SHARD_DOCUMENTS):
        shard = to_encode[start : start + _SHARD_DOCUMENTS]

        def part_progress(done: int, total: int, start: int = start, count: int = len(shard)) -> None:
            progress(start + done * count // max(1, total), len(to_encode))

        texts = _encode(scorer, [document for _, document in shard], rules, part_progress)
        store.add(dict(zip([digest for digest, _ in shard], texts, strict=True)))
    stored = [store.find(digest) for digest in digests]
    for number, (document, text) in enumerate(zip(documents, stored, strict=True)):
        if text is not None and directory is not None:
            _check_spans(text, document, number, directory)
    return Index(
        documents=tuple(documents),
        owner=owner,
        precision=store.precision,
        drift=store.drift,
        _stored=tuple(text for text in stored if text is not None),
    )


def _check_spans(stored: StoredText, document: Document, number: int, directory: str) -> None:
    """Check that stored windows can be of this document's text.

    Raises:
        IndexStoreError: characters or tokens are beyond the text's end, or the windows leave out a part although the
            text is not marked as truncated.
    """
    length = len(document.text)
    chars = [window.chars for window in stored.windows]
    last = max(stop for _, stop in chars)
    whole = chars[0][0] == 0 and last == length
    # Unicode normalisation turns a character into at most 18 characters of 3 bytes, and each byte may be a token.
    max_tokens = 64 * (length + 1)
    if last > length or stored.windows[-1].tokens[1] > max_tokens or not (whole or stored.truncated):
        raise IndexStoreError(
            f"{directory!r} holds the characters {chars[0][0]} to {last} and {stored.windows[-1].tokens[1]} tokens of "
            f"document {number}, whose text has {length} characters; make the index again in another folder"
        )


def _encode(scorer: Scorer, documents: Sequence[Document], rules: Rules, progress: Progress) -> list[StoredText]:
    assert isinstance(scorer, Indexable)
    # The layout is `separate`, so document rows do not depend on the query: an empty one serves to plan the windows.
    plan = RowPlan(scorer, [Job("", documents)], rules, deduplicate=False)
    embeddings: list[Any] = [None] * len(plan.windows)
    encode = scorer.encode
    done = 0

    def record(positions: list[int], encoded: Sequence[Any]) -> None:
        nonlocal done
        for position, embedding in zip(positions, encoded, strict=True):
            embeddings[position] = embedding
        done += len(positions)
        progress(done, len(plan.windows))

    compute_all(
        scorer, plan.batches(), lambda positions: encode([plan.row(plan.windows[one]) for one in positions]), record
    )
    windows: list[list[StoredWindow]] = [[] for _ in documents]
    for window, embedding in zip(plan.windows, embeddings, strict=True):
        windows[window.doc].append(StoredWindow((window.start, window.stop), plan.chars(window), embedding))
    return [StoredText(doc_windows, plan.truncated(0, doc)) for doc, doc_windows in enumerate(windows)]


class _MemoryStore:
    """Unchanged embeddings in memory, for a scorer that is not `Storable`."""

    precision = "float32"

    def __init__(self) -> None:
        self.drift: Mapping[str, float] = {}
        self._texts: dict[bytes, StoredText] = {}

    def find(self, digest: bytes) -> StoredText | None:
        return self._texts.get(digest)

    def add(self, texts: Mapping[bytes, StoredText]) -> None:
        self._texts.update(texts)


class IndexPlan:
    """The `Plan` of an index. No document is encoded, so its windows cost no tokens and form one batch."""

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
        """The stored embedding of a window."""
        return self._index._stored[window.doc].windows[window.number].embedding

    def spans(self, doc: int) -> list[tuple[int, int]]:
        """The ``(start, stop)`` tokens of a document's windows."""
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
