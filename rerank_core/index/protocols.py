"""Optional protocols of a scorer with separate rows for query and document: encode documents without a query, store the
embeddings, and list the matched tokens. The core tests for each with ``isinstance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rerank_core.scorer import Output, QueryRow, Row

__all__ = ["EmbeddingStore", "EncodesTexts", "Explains", "Indexable", "Storable", "StoredText", "StoredWindow"]


@runtime_checkable
class Indexable(Protocol):
    """A scorer that can encode documents without a query."""

    def encode(self, rows: Sequence[Row]) -> list[Any]:
        """One embedding per row, opaque to the core; ``Row.query`` is ignored."""
        ...

    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Any]]) -> Output:
        """The scores of ``(query, embedding)`` items, in their order; equal to those of ``forward``."""
        ...


@runtime_checkable
class EncodesTexts(Indexable, Protocol):
    """An `Indexable` scorer whose embeddings are vectors that a caller may keep."""

    def encode_queries(self, queries: Sequence[QueryRow]) -> list[Any]:
        """One embedding per query."""
        ...

    def arrays(self, embeddings: Sequence[Any]) -> Any:
        """Embeddings as numpy arrays in float32: ``[texts, width]``, or a list with ``[tokens, width]`` of each text
        for token vectors."""
        ...


@runtime_checkable
class Storable(Protocol):
    """An `Indexable` scorer with its own storage of embeddings, in memory or in a folder."""

    def store(self, directory: str | None, precision: str | None, identity: Mapping[str, Any]) -> EmbeddingStore:
        """A store of embeddings: the one in the folder, or a new one.

        Args:
            directory: the folder; None to store in memory.
            precision: ``float32``, ``float16`` or ``int8``; None for the folder's precision, ``float32`` if it is new.
            identity: settings as plain data, which must equal those the folder was made with.

        Raises:
            IndexStoreError: the folder is damaged, or was made by another model or with other settings.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """One encoded window of a text: its ``(start, stop)`` tokens and characters in the text, and its embedding."""

    tokens: tuple[int, int]
    chars: tuple[int, int]
    embedding: Any


@dataclass(frozen=True, slots=True)
class StoredText:
    """The windows of a text, in text order, and whether part of the text is in no window."""

    windows: Sequence[StoredWindow]
    truncated: bool


class EmbeddingStore(Protocol):
    """Embeddings by the SHA-256 digest of their text.

    Attributes:
        precision: the number format of the stored embeddings.
        drift: the error of that format, ``mean`` and ``max`` of the norm of the difference between stored and exact
            vectors. A similarity of unit vectors changes by no more. Empty for ``float32``, which is exact.
    """

    @property
    def precision(self) -> str: ...
    @property
    def drift(self) -> Mapping[str, float]: ...
    def find(self, digest: bytes) -> StoredText | None: ...
    def add(self, texts: Mapping[bytes, StoredText]) -> None: ...


@runtime_checkable
class Explains(Protocol):
    """An `Indexable` scorer whose score is a sum over matched tokens."""

    def explain(self, query: QueryRow, row: Row, embedding: Any) -> Sequence[tuple[int, int, float]]:
        """``(position in query.ids, position in row.ids, weight)`` per match; the weights sum to the row's score."""
        ...

    def token_text(self, token: int) -> str:
        """A token as spelt in the vocabulary."""
        ...
