"""`Template`: how the tokens of a query and of a passage become rows, and its text with a model's options in it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rerank_core.errors import InputError, one_of, short
from rerank_core.spec.model_option import ModelOption

__all__ = ["Pieces", "RenderedTemplate", "Template", "Wrap"]

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


@dataclass(frozen=True)
class RenderedTemplate:
    """The text of a template for certain options.

    Attributes:
        around: for ``query`` and ``doc``, the literal text before and after the caller's.
        literal: the pieces of ``before``, ``between`` and ``after``, each with whether the template alone wrote it:
            only then may it name special tokens.
    """

    around: Mapping[str, tuple[str, str]]
    literal: Mapping[str, Sequence[tuple[str, bool]]]

    @classmethod
    def of(
        cls, template: Template, options: Sequence[ModelOption], values: Mapping[str, Any], bos: str | None
    ) -> RenderedTemplate:
        """Write options into a template.

        Args:
            options: the model's own.
            values: of the options, by name.
            bos: the tokenizer's first token, for ``{bos}``.
        """
        texts = {option.name: option.text(values.get(option.name)) for option in options}
        around = {}
        for side, piece in (("query", template.query), ("doc", template.doc)):
            before, after = (_filled(part, texts)[0] for part in piece.split("{" + side + "}"))
            around[side] = (before, after)
        literal = {}
        for name in ("before", "between", "after"):
            pieces = [_filled(piece.replace("{bos}", bos or ""), texts) for piece in getattr(template, name)]
            literal[name] = [(text, own) for text, own in pieces if text]
        return cls(around, literal)


def _filled(piece: str, texts: Mapping[str, str]) -> tuple[str, bool]:
    """A piece with its options in place, and whether it had none. What an option says is not looked at again."""
    names = [name for name in texts if "{" + name + "}" in piece]
    if not names:
        return piece, True
    pattern = re.compile("|".join(re.escape("{" + name + "}") for name in names))
    return pattern.sub(lambda found: texts[found.group()[1:-1]], piece), False
