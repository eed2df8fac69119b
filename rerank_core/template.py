"""`Template`: how the tokens of a query and of a passage become rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rerank_core.errors import InputError, one_of, short

__all__ = ["Pieces", "Template", "Wrap"]

Wrap: TypeAlias = Literal["none", "pair", "each"]
Pieces: TypeAlias = str | Sequence[str]


@dataclass(frozen=True)
class Template:
    """How the tokens of a query and of a passage become rows.

    ``{query}`` and ``{doc}`` stand for the caller's text and are tokenized together with the literal text of
    their piece, in which no special token can stand; ``before``, ``between`` and ``after`` are literal and may name
    special tokens. User text never makes any. Each piece is tokenized on its own, so that a tokenizer never merges
    tokens across a seam; give several as a tuple. ``before``, ``query`` and ``between`` are what all rows of a query
    share.

    In any piece ``{NAME}`` stands for the model's option of that name, and in ``before`` ``{bos}`` for the
    tokenizer's first token, nothing where it has none.

    Attributes:
        wrap: which special tokens the tokenizer itself adds. ``pair``: those of its pair template, around query
            and document in one row. ``each``: those of its single template, query and document in rows of their
            own. ``none``: the template says all.
        query_marker, doc_marker: for ``each``, one token of the vocabulary that stands before the text and whatever
            is literal beside it (ColBERT's ``[unused0]`` and ``[unused1]``).
    """

    before: Pieces = ()
    query: str = "{query}"
    between: Pieces = ()
    doc: str = "{doc}"
    after: Pieces = ()
    wrap: Wrap = "none"
    query_marker: str = ""
    doc_marker: str = ""

    def __post_init__(self) -> None:
        one_of(self.wrap, ("none", "pair", "each"), "Template.wrap")
        for piece, mark in ((self.query, "{query}"), (self.doc, "{doc}")):
            if not isinstance(piece, str) or piece.count(mark) != 1:
                raise InputError(f"the template piece {short(piece)} must be a string that holds {mark} exactly once")
        for name in ("before", "between", "after"):
            value = getattr(self, name)
            pieces = (value,) if isinstance(value, str) else value
            if not isinstance(pieces, (tuple, list)) or not all(isinstance(piece, str) for piece in pieces):
                raise InputError(f"Template.{name} is {short(value)}; it must be a string or several")
            object.__setattr__(self, name, tuple(filter(None, pieces)))
        if self.wrap != "none" and (self.before or self.between or self.after):
            raise InputError(f"Template(wrap={self.wrap!r}) takes its literal text from the tokenizer; leave it out")

        for name in ("query_marker", "doc_marker"):
            marker = getattr(self, name)
            if not isinstance(marker, str) or (marker and self.wrap != "each"):
                raise InputError(f"Template.{name} is {short(marker)}; only Template.each() takes a marker, a string")

    @classmethod
    def pair(cls, query: str = "{query}", doc: str = "{doc}") -> Template:
        """The tokenizer's own pair layout, as in BERT's ``[CLS] query [SEP] doc [SEP]``."""
        return cls(query=query, doc=doc, wrap="pair")

    @classmethod
    def each(
        cls, query: str = "{query}", doc: str = "{doc}", *, query_marker: str = "", doc_marker: str = ""
    ) -> Template:
        """Query and document each in the tokenizer's single layout, as in ``[CLS] doc [SEP]``."""
        return cls(query=query, doc=doc, wrap="each", query_marker=query_marker, doc_marker=doc_marker)
