"""How an original framework makes rows of texts, as data: what ``compat=`` copies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rerank_core.longdoc import LongDoc

__all__ = ["Manner", "Profile"]


@dataclass(frozen=True)
class Manner:
    """One way of a framework to make rows of texts.

    Attributes:
        query_share: the query is cut to ``max_length * a // b`` tokens, for ``(a, b)``.
        longest_first: query and document are cut together, as Hugging Face's ``truncation=True`` does.
        stacked: rows are the query's own row, then separator, passage, separator. Equal to the pair layout where
            that has two separators between the texts (XLM-R); on BERT one more.
        max_chars: characters that are read of a document.
        pieces: the literal text of a piece counts as its text does: to the query's share, and in the document's piece,
            which is cut to ``max_length``.
        beside: parts of the template that are added to ``max_length``, each as often as it is named.
    """

    longdoc: LongDoc
    query_share: tuple[int, int] | None = None
    longest_first: bool = False
    stacked: bool = False
    max_chars: int | None = None
    pieces: bool = False
    beside: tuple[Literal["before", "between", "after"], ...] = ()


@dataclass(frozen=True)
class Profile:
    """A framework: ``pairs`` is how its ``compute_score`` reads texts, ``lists`` how its ``rerank`` does."""

    pairs: Manner
    lists: Manner
