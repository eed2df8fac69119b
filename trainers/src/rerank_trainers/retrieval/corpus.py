"""The texts that negatives are taken from, each once, and when two texts are the same."""

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
    """A digest that texts share which differ only in letter case, white space or Unicode form (NFKC).

    >>> text_key("A  giant panda") == text_key("a giant Panda\\n")
    True
    """
    return digest(normalise(text))


@dataclass
class Corpus:
    """Texts in order, each once.

    Attributes:
        texts: the ones to mine, then the ones that are only compared with (see `add_unmined`).
        minable: how many of the first may be mined.
        repeated: texts left out since an equal one came before.
        blank: texts left out since there is nothing in them.
    """

    texts: list[str] = field(default_factory=list)
    minable: int = 0
    repeated: int = 0
    blank: int = 0
    _places: dict[int, int] = field(default_factory=dict, repr=False)
    _keys: array[int] = field(default_factory=lambda: array("Q"), repr=False)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Corpus:
        """A corpus of these texts.

        Raises:
            InputError: there is no text with anything in it.
        """
        corpus = cls()
        for text in texts:
            if not text.strip():
                corpus.blank += 1
            elif not corpus._add(text):
                corpus.repeated += 1
        corpus.minable = len(corpus.texts)
        if not corpus.minable:
            raise InputError(f"the corpus has no text to mine (blank ones: {corpus.blank}); give it documents")
        return corpus

    @classmethod
    def of_rows(cls, rows: Iterable[TrainingRow]) -> Corpus:
        """A corpus of all documents of the rows."""
        return cls.of(doc for row in rows for doc in row.docs)

    def add_unmined(self, texts: Iterable[str]) -> None:
        """Texts that a retriever shall score too, as margins need of positives, and that are never mined."""
        for text in texts:
            self._add(text)

    def position(self, text: str) -> int | None:
        """Where a text stands; None where it is unknown."""
        return self._places.get(text_key(text))

    def key(self, place: int) -> int:
        """`text_key` the text at a place."""
        return self._keys[place]

    def fingerprint(self) -> str:
        """A digest of all texts, in order."""
        state = hashlib.blake2b(digest_size=16)
        for text in self.texts:
            state.update(text.encode("utf-8", "surrogatepass") + b"\n")
        return state.hexdigest()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, places: Sequence[int]) -> list[str]:
        return [self.texts[place] for place in places]

    def _add(self, text: str) -> bool:
        key = text_key(text)
        if key in self._places:
            return False
        self._places[key] = len(self.texts)
        self._keys.append(key)
        self.texts.append(text)
        return True
