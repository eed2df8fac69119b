"""`Plain`: how models of one kind are scored without rerank-core."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core import ModelSpec
from rerank_trainers.publish.probes import Pair

__all__ = ["Plain", "Score", "release_of", "spells_specials"]

Score: TypeAlias = Callable[[Path, ModelSpec, Sequence[Pair]], list[float]]
"""Raw scores of pairs, from a folder and its spec."""


class Plain(ABC):
    """One way to lay out rows and compute scores in other libraries."""

    @abstractmethod
    def ways(self, folder: Path) -> Mapping[str, Score]:
        """What computes scores, by library: those that are installed and read the folder."""

    @abstractmethod
    def fits(self, tokenizer: Any, spec: ModelSpec, pair: Pair) -> bool:
        """Whether other libraries lay out a pair as rerank-core does: it fits a row, and spells no special tokens,
        which they would parse."""

    @abstractmethod
    def card(self, spec: ModelSpec, folder: Path | None) -> list[str]:
        """Lines of a model card, with code that ends in a variable ``score``.

        Args:
            folder: the published folder; None if it is not known.
        """


def release_of(library: str) -> int:
    """The major release of a library; 0 if it is not installed."""
    try:
        return int(importlib.metadata.version(library).partition(".")[0])
    except importlib.metadata.PackageNotFoundError:
        return 0


def spells_specials(tokenizer: Any, texts: Sequence[str], more: Sequence[str] = ()) -> bool:
    """Whether a text spells a special or added token of a transformers tokenizer, or one of ``more``."""
    specials = {*tokenizer.all_special_tokens, *map(str, tokenizer.added_tokens_decoder.values()), *filter(None, more)}
    return any(token in text for token in specials for text in texts)
