"""The corpus that negatives are mined from, without duplicate texts."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.hashing import digest, normalise

__all__ = ["Corpus", "text_key"]


def text_key(text: str) -> int:
    """A hash that is equal for texts that differ only in letter case, white space or Unicode form (NFKC).

    >>> text_key("A  giant panda") == text_key("a giant Panda\\n")
    True
    """
    return digest(normalise(text))


@dataclass
class Corpus:
    """Texts in order, without duplicates.

    Attributes:
        texts: the texts to mine, followed by those that are scored but not mined (see `add_unmined`).
        minable: number of texts at the start of ``texts`` that may be mined.
        repeated: number of texts left out because an equal text came before.
        blank: number of blank texts left out.
    """

    texts: list[str] = field(default_factory=list)
    minable: int = 0
    repeated: int = 0
    blank: int = 0
    _positions: dict[int, int] = field(default_factory=dict, repr=False)
    _keys: array[int] = field(default_factory=lambda: array("Q"), repr=False)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Corpus:
        """A corpus of texts.

        Raises:
            InputError: there is no text that is not blank.
        """
        corpus = cls()
        for text in texts:
            if not text.strip():
                corpus.blank += 1
            elif not corpus._add(text):
                corpus.repeated += 1
        corpus.minable = len(corpus.texts)
        if not corpus.minable:
            raise InputError(f"the corpus has no text to search (blank ones: {corpus.blank}); give it documents")
        return corpus

    @classmethod
    def of_rows(cls, rows: Iterable[TrainingRow]) -> Corpus:
        """A corpus of the documents of all rows."""
        return cls.of(doc for row in rows for doc in row.docs)

    def add_unmined(self, texts: Iterable[str]) -> None:
        """Add texts that the retriever scores but that are never mined: positives, whose scores margins need."""
        for text in texts:
            self._add(text)

    def position(self, text: str) -> int | None:
        """The index of a text in ``texts``; None if it is not in the corpus."""
        return self._positions.get(text_key(text))

    def key(self, position: int) -> int:
        """The `text_key` of the text at an index of ``texts``."""
        return self._keys[position]

    def fingerprint(self) -> str:
        """A digest of all texts in order."""
        state = hashlib.blake2b(digest_size=16)
        for text in self.texts:
            state.update(text.encode("utf-8", "surrogatepass") + b"\n")
        return state.hexdigest()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, positions: Sequence[int]) -> list[str]:
        return [self.texts[position] for position in positions]

    def _add(self, text: str) -> bool:
        key = text_key(text)
        if key in self._positions:
            return False
        self._positions[key] = len(self.texts)
        self._keys.append(key)
        self.texts.append(text)
        return True
