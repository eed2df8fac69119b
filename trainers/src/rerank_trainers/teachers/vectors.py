"""A teacher's vectors of all texts of rows: of each query with its instruction, and of each document."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import query_hash, text_hash

__all__ = ["TOGETHER", "Encoder", "Texts", "encode"]

TOGETHER = 1024  # texts of a block

_QUERY = -1


class Encoder(Protocol):
    """A model that encodes queries and documents to one vector each, such as `Reranker` with an embedding model."""

    def encode(self, texts: Sequence[str], *, side: Literal["query", "doc"], **options: Any) -> Any:
        """``[texts, width]`` as a numpy array."""
        ...


@dataclass
class Texts:
    """The distinct texts of rows, in the order of their first occurrence, as places in the rows.

    Attributes:
        queries, documents: number of distinct queries (with their instruction) and documents.
    """

    rows: Sequence[TrainingRow]
    queries: int = 0
    documents: int = 0
    _keys: array[int] = field(default_factory=lambda: array("q"), repr=False)
    _rows: array[int] = field(default_factory=lambda: array("Q"), repr=False)
    _places: array[int] = field(default_factory=lambda: array("i"), repr=False)

    @classmethod
    def of(cls, rows: Sequence[TrainingRow]) -> Texts:
        """The texts of rows. Memory: the hash and the place of each text, not the text."""
        texts, seen = cls(rows), set[int]()
        for number, row in enumerate(rows):
            keys = (query_hash(row.query, row.instruction), *map(text_hash, row.texts))
            for place, key in enumerate(keys, start=_QUERY):
                if key in seen:
                    continue
                seen.add(key)
                texts._keys.append(key)
                texts._rows.append(number)
                texts._places.append(place)
                texts.queries += place == _QUERY
                texts.documents += place != _QUERY
        return texts

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """The hash of each text."""
        return np.frombuffer(self._keys, dtype=np.int64)

    def read(self, numbers: range) -> list[tuple[Literal["query", "doc"], str | None, str]]:
        """``(side, instruction, text)`` of the texts with these numbers; documents have no instruction."""
        found: list[tuple[Literal["query", "doc"], str | None, str]] = []
        last, row = -1, None
        for number in numbers:
            if self._rows[number] != last or row is None:
                last = self._rows[number]
                row = self.rows[last]
            place = self._places[number]
            found.append(("query", row.instruction, row.query) if place == _QUERY else ("doc", None, row.texts[place]))
        return found


def encode(
    texts: Texts, encoder: Encoder, *, follows: bool, start: int = 0, together: int = TOGETHER, **options: Any
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the vectors of the texts from ``start`` on, in blocks ``[texts, width]``.

    Args:
        follows: whether the model takes an instruction, which a query's row may have.
        start: number of the first text; a resumed run starts at a block, so that its calls are those of a whole run.
        together: texts of a block.
        options: further options of ``encoder.encode``.

    Raises:
        InputError: a model that gives the vectors of tokens, or (from ``encoder``) that encodes no text alone.
    """
    for first in range(start, len(texts), together):
        block = texts.read(range(first, min(first + together, len(texts))))
        alike: dict[tuple[Literal["query", "doc"], str | None], list[int]] = {}
        for at, (side, instruction, _) in enumerate(block):
            alike.setdefault((side, instruction if follows else None), []).append(at)
        vectors: npt.NDArray[np.float32] | None = None
        for (side, instruction), places in alike.items():
            told = options if instruction is None else {**options, "instruction": instruction}
            encoded = encoder.encode([block[at][2] for at in places], side=side, **told)
            if isinstance(encoded, list):
                raise InputError(
                    "the teacher gives a vector for each token (late interaction), and --vectors writes one for each "
                    "text: use an embedding model, or have it score documents (leave out --vectors)"
                )
            found = np.asarray(encoded, dtype=np.float32)
            if vectors is None:
                vectors = np.empty((len(block), found.shape[1]), dtype=np.float32)
            vectors[places] = found
        assert vectors is not None
        yield vectors
