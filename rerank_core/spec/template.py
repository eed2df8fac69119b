"""`Template`: how the tokens of a query and of a passage become rows; `RenderedTemplate`: its text with options set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from rerank_core.errors import InputError, one_of, short
from rerank_core.spec.model_option import ModelOption

__all__ = ["LiteralPiece", "MessageFormat", "Order", "Pieces", "RenderedTemplate", "Template", "Wrap"]

Wrap: TypeAlias = Literal["none", "pair", "each", "chat"]
MessageFormat: TypeAlias = Literal["auto", "flat", "structured"]
Pieces: TypeAlias = str | Sequence[str]
Order: TypeAlias = Literal["query_first", "doc_first"]


@dataclass(frozen=True)
class Template:
    """How the tokens of a query and of a passage become rows.

    ``{query}`` and ``{doc}`` are replaced by the caller's text, which is tokenized together with the literal text of
    its piece; these pieces contain no special tokens. ``before``, ``between`` and ``after`` are literal and may name
    special tokens; user text is never parsed for them. Each piece is tokenized on its own, so that the tokenizer never
    merges tokens of two pieces; a tuple gives several pieces. An element of such a tuple that equals ``query`` stands
    for the query once more.

    A causal model computes what comes before the document once for all documents of a query. Where the document comes
    first, nothing is shared.

    In any piece ``{NAME}`` is replaced by the value of the model's option of that name, and in ``before`` ``{bos}`` by
    the tokenizer's beginning-of-sequence token (by nothing if it has none).

    Attributes:
        wrap: the special tokens that the tokenizer adds. ``pair``: those of its pair template, around query and
            document in one row. ``each``: those of its single template, around query and document in separate rows.
            ``none``: no others than the template names. ``chat``: the checkpoint's chat template writes the row; see
            `chat`.
        order: which text comes first. ``doc_first``: ``before``, ``doc``, ``between``, ``query``, ``after``.
        query_marker, doc_marker: for ``each``, one token of the vocabulary that is put before the piece (ColBERT's
            ``[unused0]`` and ``[unused1]``).
        message_format: for ``chat``, the content of a message: ``flat``, the text; ``structured``, a list with one text
            part; ``auto``, as the chat template's own text shows, by the rule of sentence-transformers.
        variables: for ``chat``, names and values of the chat template's variables, such as ``add_generation_prompt``.
    """

    before: Pieces = ()
    query: str = "{query}"
    between: Pieces = ()
    doc: str = "{doc}"
    after: Pieces = ()
    wrap: Wrap = "none"
    query_marker: str = ""
    doc_marker: str = ""
    order: Order = "query_first"
    message_format: MessageFormat = "auto"
    variables: tuple[tuple[str, bool | int | float | str | None], ...] = ()

    def __post_init__(self) -> None:
        one_of(self.wrap, get_args(Wrap), "Template.wrap")
        one_of(self.order, get_args(Order), "Template.order")
        one_of(self.message_format, get_args(MessageFormat), "Template.message_format")
        object.__setattr__(self, "variables", _variables(self.variables))
        if self.wrap != "chat" and (self.message_format != "auto" or self.variables):
            raise InputError(f"Template(wrap={self.wrap!r}) takes no message_format and variables; leave them out")
        if self.wrap == "chat" and (self.query, self.doc) != ("{query}", "{doc}"):
            raise InputError("Template.chat() takes its text from the checkpoint's template; leave query and doc out")
        for piece, field in ((self.query, "{query}"), (self.doc, "{doc}")):
            if not isinstance(piece, str) or piece.count(field) != 1:
                raise InputError(f"the template piece {short(piece)} must be a string that holds {field} exactly once")
        for name in ("before", "between", "after"):
            value = getattr(self, name)
            pieces = (value,) if isinstance(value, str) else value
            if not isinstance(pieces, (tuple, list)) or not all(isinstance(piece, str) for piece in pieces):
                raise InputError(f"Template.{name} is {short(value)}; it must be a string or a tuple of strings")
            object.__setattr__(self, name, tuple(filter(None, pieces)))
            for piece in pieces:
                if piece != self.query and ("{query}" in piece or "{doc}" in piece):
                    raise InputError(
                        f"Template.{name} holds {short(piece)}; there {{query}} is only in a piece that equals "
                        f"Template.query ({short(self.query)}) and repeats it, and {{doc}} only in Template.doc"
                    )
        if self.wrap != "none" and self.order != "query_first":
            raise InputError(
                f"Template(wrap={self.wrap!r}, order={self.order!r}): only a template of literal text has an order"
            )
        if self.wrap != "none" and (self.before or self.between or self.after):
            raise InputError(f"Template(wrap={self.wrap!r}) takes its literal text from the tokenizer; leave it out")

        for name in ("query_marker", "doc_marker"):
            marker = getattr(self, name)
            if not isinstance(marker, str) or (marker and self.wrap != "each"):
                raise InputError(f"Template.{name} is {short(marker)}; only Template.each() takes a marker, a string")

    @classmethod
    def pair(cls, query: str = "{query}", doc: str = "{doc}") -> Template:
        """The tokenizer's pair layout, such as BERT's ``[CLS] query [SEP] doc [SEP]``."""
        return cls(query=query, doc=doc, wrap="pair")

    @classmethod
    def each(
        cls, query: str = "{query}", doc: str = "{doc}", *, query_marker: str = "", doc_marker: str = ""
    ) -> Template:
        """Query and document each in the tokenizer's single layout, such as ``[CLS] doc [SEP]``."""
        return cls(query=query, doc=doc, wrap="each", query_marker=query_marker, doc_marker=doc_marker)

    @classmethod
    def chat(
        cls,
        message_format: MessageFormat = "auto",
        variables: Mapping[str, bool | int | float | str | None] | None = None,
    ) -> Template:
        """The row that the checkpoint's chat template writes for two messages with the roles ``query`` and
        ``document``, after one with the role ``system`` where the option ``instruction`` is not empty. It becomes
        literal pieces when the model is loaded (sentence-transformers' layout of pairs, from release 5.4 on)."""
        return cls(wrap="chat", message_format=message_format, variables=tuple((variables or {}).items()))

    @property
    def repeats_query(self) -> bool:
        """Whether a row has the query more than once."""
        return self.query in (*self.before, *self.between, *self.after)


class LiteralPiece(NamedTuple):
    """A piece of a template with the values of options filled in.

    Attributes:
        text: its text; empty for the query.
        origin: ``template``: text of the template alone, which may name special tokens. ``option``: it contains the
            value of an option. ``query``: the query's piece stands here once more.
    """

    text: str
    origin: Literal["template", "option", "query"]


@dataclass(frozen=True)
class RenderedTemplate:
    """The text of a template with the values of options filled in.

    Attributes:
        around: for ``query`` and ``doc``, the literal text before and after the caller's text.
        literal: the pieces of ``before``, ``between`` and ``after``.
        order: see `Template`.
    """

    around: Mapping[str, tuple[str, str]]
    literal: Mapping[str, Sequence[LiteralPiece]]
    order: Order

    @classmethod
    def of(
        cls, template: Template, options: Sequence[ModelOption], values: Mapping[str, Any], bos: str | None
    ) -> RenderedTemplate:
        """Fill option values into a template.

        Args:
            options: the model's options.
            values: the options' values, by name.
            bos: the tokenizer's beginning-of-sequence token, for ``{bos}``.
        """
        texts = {option.name: option.text(values.get(option.name)) for option in options}
        around = {}
        for side, piece in (("query", template.query), ("doc", template.doc)):
            before, after = (_filled(part, texts).text for part in piece.split("{" + side + "}"))
            around[side] = (before, after)
        literal = {}
        for name in ("before", "between", "after"):
            pieces = [
                LiteralPiece("", "query")
                if piece == template.query
                else _filled(piece.replace("{bos}", bos or ""), texts)
                for piece in getattr(template, name)
            ]
            literal[name] = [piece for piece in pieces if piece.text or piece.origin == "query"]
        return cls(around, literal, template.order)

    def pieces(self, query: str, doc: str) -> list[str]:
        """The pieces of a row in order, the texts in theirs."""
        asked, read = (text.join(self.around[side]) for side, text in (("query", query), ("doc", doc)))
        first, second = (asked, read) if self.order == "query_first" else (read, asked)
        before, between, after = (
            [asked if piece.origin == "query" else piece.text for piece in self.literal[name]]
            for name in ("before", "between", "after")
        )
        return [*before, first, *between, second, *after]


def _variables(value: Any) -> tuple[tuple[str, Any], ...]:
    """The variables as sorted pairs; a JSON file has lists."""
    pairs = value.items() if isinstance(value, Mapping) else value
    if not isinstance(pairs, (str, bytes)) and isinstance(pairs, Iterable):
        pairs = [tuple(pair) if isinstance(pair, (list, tuple)) else pair for pair in pairs]
        if all(isinstance(pair, tuple) and len(pair) == 2 and _is_variable(*pair) for pair in pairs):
            return tuple(sorted(pairs))
    raise InputError(f"Template.variables is {short(value)}; it must name variables and give each a plain value")


def _is_variable(name: object, value: object) -> bool:
    plain = value is None or isinstance(value, (bool, int, float, str))
    return isinstance(name, str) and name.isidentifier() and plain


def _filled(piece: str, texts: Mapping[str, str]) -> LiteralPiece:
    """A piece with option values filled in. Values are not scanned for ``{NAME}``."""
    names = [name for name in texts if "{" + name + "}" in piece]
    if not names:
        return LiteralPiece(piece, "template")
    pattern = re.compile("|".join(re.escape("{" + name + "}") for name in names))
    return LiteralPiece(pattern.sub(lambda match: texts[match.group()[1:-1]], piece), "option")
