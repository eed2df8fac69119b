"""`TokenVectors`: how a late-interaction model turns hidden states into token vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rerank_core.errors import InputError, short

__all__ = ["TokenVectors"]


@dataclass(frozen=True)
class TokenVectors:
    """How last hidden states become the vectors that late interaction compares.

    By default every token of a row, special tokens included, has a vector: its last hidden state, L2-normalised.

    Attributes:
        projection: linear layers after the encoder, in order. Each is the name of a weight in the checkpoint
            (``linear.weight``), a file with ``weight`` and ``bias`` (``colbert_linear.pt``) or a folder saved by
            sentence-transformers' Dense (``1_Dense``).
        normalize: whether vectors are scaled to length 1.
        skip_first: the first token of a row has no vector (BGE-M3's ``<s>``).
        skip: tokens without a vector in documents, as spelt in the vocabulary (ColBERT's punctuation).
        skip_in_queries: the tokens of ``skip`` have no vector in queries either.
        expand_to: shorter queries are padded to this many tokens (ColBERT's query augmentation).
        expand_with: the token that pads them, such as ``[MASK]``.
        attend_expansion: whether the query's own tokens attend to the padding tokens; the padding tokens always attend
            to the query.
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
                raise InputError(f"TokenVectors.{name} is {short(value)}; it must be a tuple of strings")
            object.__setattr__(self, name, tuple(value))
        for path in self.projection:
            if path.startswith(("/", "~")) or "\\" in path or ".." in path.split("/"):
                raise InputError(f"TokenVectors.projection names {path!r}; it must be inside the checkpoint")
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
