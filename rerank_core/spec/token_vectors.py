"""`TokenVectors`: which vectors a late-interaction model makes of a row's tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rerank_core.errors import InputError, short

__all__ = ["TokenVectors"]


@dataclass(frozen=True)
class TokenVectors:
    """How last hidden states become the vectors that late interaction compares.

    By default every token of a row has one, special tokens included, as the encoder gives it, L2-normalised.

    Attributes:
        projection: linear layers after the encoder, in turn: the name of a weight in the checkpoint
            (``linear.weight``), a file with ``weight`` and ``bias`` (``colbert_linear.pt``) or a folder that
            sentence-transformers' Dense saved (``1_Dense``).
        normalize: whether vectors have length one.
        skip_first: the first token of a row has no vector (BGE-M3's ``<s>``).
        skip: tokens that have none in documents, as the vocabulary spells them (ColBERT's punctuation).
        skip_in_queries: they have none in queries either.
        expand_to: shorter queries are filled up to so many tokens (ColBERT's query augmentation).
        expand_with: the token that fills them.
        attend_expansion: whether the query's own tokens attend to those; they themselves always see the query.
    """

    projection: tuple[str, ...] = ()
    normalize: bool = True
    skip_first: bool = False
    skip: tuple[str, ...] = ()
    skip_in_queries: bool = False
    expand_to: int | None = None
    expand_with: str | None = None
    attend_expansion: bool = False

    def __post_init__(self) -> None:
        for name in ("projection", "skip"):
            value: Any = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(item, str) and item for item in value):
                raise InputError(f"TokenVectors.{name} is {short(value)}; it must be several strings")
            object.__setattr__(self, name, tuple(value))
        for place in self.projection:
            if place.startswith(("/", "~")) or "\\" in place or ".." in place.split("/"):
                raise InputError(f"TokenVectors.projection names {place!r}; it must lie inside the checkpoint")
        for name in ("normalize", "skip_first", "skip_in_queries", "attend_expansion"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"TokenVectors.{name} is {getattr(self, name)!r}; it must be True or False")
        length = self.expand_to
        if length is not None and (isinstance(length, bool) or not isinstance(length, int) or length < 1):
            raise InputError(f"TokenVectors.expand_to is {short(length)}; it must be a positive integer")
        if (length is None) != (self.expand_with is None):
            raise InputError(
                f"TokenVectors has expand_to={length!r} and expand_with={self.expand_with!r}; give both or neither"
            )
