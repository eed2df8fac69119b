"""`LiteralFrame`: rows of a template with literal text. Pure Python without tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.scorer import Batch, Layout, QueryRow, Row, Tokens
from rerank_core.spec.template import Order, RenderedTemplate

__all__ = ["LiteralFrame", "behind_prefixes", "literal_frame"]

Part: TypeAlias = tuple[tuple[int, ...], ...]
"""The literal token ids of ``before``, ``between`` or ``after``; the query's piece stands between two of them."""


@dataclass(frozen=True, slots=True)
class LiteralFrame:
    """Query and document between the literal pieces of a template; all tokens are of the first type.

    Attributes:
        order: which of the two texts comes first.
        shared: the layout is ``prefix``: what comes before the document is a query row. Where the document comes first,
            nothing can be shared, and the layout is ``joint``.
    """

    before: Part
    between: Part
    after: Part
    order: Order = "query_first"
    shared: bool = False

    @property
    def layout(self) -> Layout:
        return "prefix" if self.shared and self.order == "query_first" else "joint"

    @property
    def lengths(self) -> Mapping[str, int]:
        """The number of literal tokens of ``before``, ``between`` and ``after``; a repeated query is not counted."""
        parts = {"before": self.before, "between": self.between, "after": self.after}
        return {name: sum(map(len, part)) for name, part in parts.items()}

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        """The tokens of a row that are not the document's, without those of a query row."""
        left = 0 if self.layout == "prefix" else len(self._left(query))
        return left + doc.literal_length + len(self._right(query))

    def query_row(self, query: Tokens) -> QueryRow | None:
        """The tokens that all rows of a query share; None where the layout is ``joint``."""
        return QueryRow(self._left(query)) if self.layout == "prefix" else None

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        left = [] if self.layout == "prefix" else self._left(query)
        segment = [*doc.lead, *doc.ids[start:stop], *doc.tail_after(stop)]
        span = len(left) + len(doc.lead)
        return Row(
            *owner,
            ids=[*left, *segment, *self._right(query)],
            types=None,
            segment=(len(left), len(left) + len(segment)),
            span=(span, span + stop - start),
        )

    def _left(self, query: Tokens) -> list[int]:
        """What comes before the document's piece."""
        parts = (self.before, ((), ()), self.between) if self.order == "query_first" else (self.before,)
        return [id_ for part in parts for id_ in _filled(part, query)]

    def _right(self, query: Tokens) -> list[int]:
        """What comes after the document's piece."""
        parts = (self.after,) if self.order == "query_first" else (self.between, ((), ()), self.after)
        return [id_ for part in parts for id_ in _filled(part, query)]


def _filled(part: Part, query: Tokens) -> Iterator[int]:
    """A part with the query's piece between its literal ids."""
    for number, ids in enumerate(part):
        if number:
            yield from query.lead
            yield from query.ids
            yield from query.tail
        yield from ids


def literal_frame(
    tokenizer: TextTokenizer,
    wording: RenderedTemplate,
    known: MutableMapping[str, tuple[int, ...]],
    *,
    shared: bool = False,
) -> LiteralFrame:
    """The frame of a template, each of whose pieces is tokenized on its own.

    Special tokens are recognized in the template's text, never in the value of an option.

    Args:
        known: ids of pieces by text. New pieces are added, so that a piece is tokenized once: `TextTokenizer.literal`
            changes a setting of the tokenizer, which other threads may be using later.
        shared: see `LiteralFrame`.
    """
    parts = {}
    for name, pieces in wording.literal.items():
        part: list[list[int]] = [[]]
        for piece in pieces:
            if piece.origin == "query":
                part.append([])
            elif piece.origin == "option":
                part[-1] += tokenizer.encode([piece.text])[0].ids
            else:
                if piece.text not in known:
                    known[piece.text] = tokenizer.literal(piece.text)
                part[-1] += known[piece.text]
        parts[name] = tuple(map(tuple, part))
    return LiteralFrame(**parts, order=wording.order, shared=shared)


def behind_prefixes(
    batch: Batch,
) -> tuple[dict[int, Sequence[int]], list[Sequence[int]], list[int], list[tuple[int, int]]]:
    """The parts of a batch: prefixes by query, rows, the query of each row, and the document's position in each row.

    The prefixes are empty where the layout is ``joint``.

    A row without tokens (an empty document without template text after it) is scored at the last token of its prefix.
    If a query has such a row, that token moves from the prefix to the start of each of its rows.
    """
    owners = [row.query for row in batch.rows]
    prefixes: dict[int, Sequence[int]] = {
        owner: batch.queries[owner].ids if owner in batch.queries else () for owner in dict.fromkeys(owners)
    }
    moved = {row.query: list(prefixes[row.query][-1:]) for row in batch.rows if not row.ids}
    rows = [[*moved[row.query], *row.ids] if row.query in moved else row.ids for row in batch.rows]
    segments = [(row.segment[0] + (row.query in moved), row.segment[1] + (row.query in moved)) for row in batch.rows]
    prefixes.update({owner: prefixes[owner][:-1] for owner in moved})
    return prefixes, rows, owners, segments
