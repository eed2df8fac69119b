"""What a scorer that keeps query and document apart can do beside scoring: encode documents before any query is known,
keep what it encoded, and say which tokens matched. Each is asked for by ``isinstance``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from rerank_core.scorer import Output, QueryRow, Row

__all__ = ["EmbeddingStore", "Explains", "Indexable", "Storable", "StoredText", "StoredWindow"]


@runtime_checkable
class Indexable(Protocol):
    """A scorer whose documents can be encoded before any query is known."""

    def encode(self, rows: Sequence[Row]) -> list[Any]:
        """One opaque embedding per row; ``Row.query`` means nothing here."""
        ...

    def match(self, queries: Mapping[int, QueryRow], items: Sequence[tuple[int, Any]]) -> Output:
        """Scores of ``(query, embedding)`` items, in their order; equal to those of ``forward``."""
        ...


@runtime_checkable
class Storable(Protocol):
    """An `Indexable` scorer that lays embeddings out for matching, in memory or in a folder."""

    def store(self, directory: str | None, precision: str | None, identity: Mapping[str, Any]) -> EmbeddingStore:
        """A shelf, opened where the folder holds one.

        Args:
            precision: ``float32``, ``float16`` or ``int8``; None for what the folder has, else ``float32``.
            identity: plain data that an opened shelf must have been made with.

        Raises:
            IndexStoreError: a folder that is damaged, or was made by another model or with other settings.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredWindow:
    """One encoded window of a text: its tokens and characters in the text, its opaque embedding."""

    tokens: tuple[int, int]
    chars: tuple[int, int]
    embedding: Any


@dataclass(frozen=True, slots=True)
class StoredText:
    """The windows of a text, in text order, and whether some of it was not read."""

    windows: Sequence[StoredWindow]
    truncated: bool


class EmbeddingStore(Protocol):
    """Embeddings by the digest of their text.

    Attributes:
        precision: what the embeddings are kept in.
        drift: how far that moved them (``mean`` and ``max``), as the length of the difference of vectors:
            between unit vectors no similarity moves by more. Empty for ``float32``.
    """

    @property
    def precision(self) -> str: ...
    @property
    def drift(self) -> Mapping[str, float]: ...
    def find(self, digest: bytes) -> StoredText | None: ...
    def add(self, texts: Mapping[bytes, StoredText]) -> None: ...


@runtime_checkable
class Explains(Protocol):
    """An `Indexable` scorer whose score is a sum over matches of tokens."""

    def explain(self, query: QueryRow, row: Row, embedding: Any) -> Sequence[tuple[int, int, float]]:
        """``(place in query.ids, place in row.ids, weight)`` of each match; the weights sum to the row's score."""
        ...

    def token_text(self, token: int) -> str:
        """A token as the vocabulary spells it."""
        ...
