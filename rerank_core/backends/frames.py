"""Builds a `Row` from `Tokens`: puts the template's tokens around the caller's. Pure Python without tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.errors import CheckpointError
from rerank_core.scorer import QueryRow, Row, Tokens

__all__ = [
    "PairFrame",
    "SingleFrame",
    "pair_frame",
    "single_frame",
    "stacked_frame",
    "token_id",
]

Owner = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class PairFrame:
    """Query and document in one row: ``before query between doc after``, with token types for each part."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    types: tuple[tuple[int, ...], int, tuple[int, ...], int, tuple[int, ...]] | None

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        frame = len(self.before) + len(self.between) + len(self.after)
        return frame + len(query.lead) + len(query) + len(query.tail) + doc.literal_length

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: Owner) -> Row:
        left = [*self.before, *query.lead, *query.ids, *query.tail, *self.between]
        segment = [*doc.lead, *doc.ids[start:stop], *doc.tail_after(stop)]
        types = None
        if self.types is not None:
            before, first, between, second, after = self.types
            query_length = len(left) - len(self.before) - len(self.between)
            types = [*before, *[first] * query_length, *between, *[second] * len(segment), *after]
        span = len(left) + len(doc.lead)
        return Row(
            *owner,
            ids=[*left, *segment, *self.after],
            types=types,
            segment=(len(left), len(left) + len(segment)),
            span=(span, span + stop - start),
        )


@dataclass(frozen=True, slots=True)
class SingleFrame:
    """One text per row: ``before text after``, all of one token type.

    A query is filled up to ``least`` tokens with ``filler`` (ColBERT's [MASK] expansion). The filler tokens attend to
    the query; they are attended to only if ``attend``.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    least: int = 0
    filler: int = 0
    attend: bool = True

    def overhead(self, doc: Tokens) -> int:
        return len(self.before) + doc.literal_length + len(self.after)

    def query_row(self, query: Tokens) -> QueryRow:
        ids = [*self.before, *query.lead, *query.ids, *query.tail, *self.after]
        start, length = len(self.before) + len(query.lead), len(ids)
        return QueryRow(
            [*ids, *[self.filler] * (self.least - length)],
            span=(start, start + len(query)),
            attended=length if length < self.least and not self.attend else None,
        )

    def row(self, doc: Tokens, start: int, stop: int, owner: Owner) -> Row:
        segment = [*doc.lead, *doc.ids[start:stop], *doc.tail_after(stop)]
        first = len(self.before)
        span = first + len(doc.lead)
        return Row(
            *owner,
            ids=[*self.before, *segment, *self.after],
            types=None,
            segment=(first, first + len(segment)),
            span=(span, span + stop - start),
        )


def pair_frame(tokenizer: TextTokenizer, *, typed: bool) -> PairFrame:
    """The pair layout of a tokenizer, read from one encoded pair.

    Args:
        typed: whether the model has token types.

    Raises:
        CheckpointError: a layout in which the second text does not follow the first.
    """
    probe = tokenizer.raw.encode("a", "b")
    marks = list(probe.sequence_ids)
    (a, b), (c, d) = _run(marks, 0), _run(marks, 1)
    if not a < b <= c < d:
        raise CheckpointError(f"the tokenizer's pair template does not put the second text after the first: {marks!r}")
    ids, types = tuple(probe.ids), tuple(probe.type_ids)
    return PairFrame(
        before=ids[:a],
        between=ids[b:c],
        after=ids[d:],
        types=(types[:a], types[a], types[b:c], types[c], types[d:]) if typed else None,
    )


def stacked_frame(tokenizer: TextTokenizer, *, typed: bool) -> PairFrame:
    """BCEmbedding's layout: the query in the layout of one text, then separator, passage, separator of the second type.

    The separator is the last token of the tokenizer's pair layout.

    Raises:
        CheckpointError: a pair layout that does not end with one token.
    """
    pair, single = pair_frame(tokenizer, typed=typed), single_frame(tokenizer)
    if len(pair.after) != 1:
        raise CheckpointError(
            f"the tokenizer's pair template ends with the tokens {pair.after!r}, not with one separator"
        )
    between = (*single.after, *pair.after)
    types = ((0,) * len(single.before), 0, (0,) * len(single.after) + (1,), 1, (1,))
    return PairFrame(before=single.before, between=between, after=pair.after, types=types if typed else None)


def single_frame(
    tokenizer: TextTokenizer, *, marker: str = "", least: int = 0, filler: str = "", attend: bool = True
) -> SingleFrame:
    """The layout of one text of a tokenizer, read from one encoded text.

    Args:
        marker: a token before the text.
        least, filler, attend: see `SingleFrame`.

    Raises:
        CheckpointError: a marker or filler that is not in the vocabulary.
    """
    probe = tokenizer.raw.encode("a")
    start, stop = _run(list(probe.sequence_ids), 0)
    ids = tuple(probe.ids)
    before = (*ids[:start], token_id(tokenizer, marker)) if marker else ids[:start]
    return SingleFrame(before, ids[stop:], least, token_id(tokenizer, filler) if filler else 0, attend)


def token_id(tokenizer: TextTokenizer, token: str) -> int:
    """The id of a token of the vocabulary.

    Raises:
        CheckpointError: the vocabulary does not have it.
    """
    id_: int | None = tokenizer.raw.token_to_id(token)
    if id_ is None:
        raise CheckpointError(f"the tokenizer has no token {token!r}, which the model's layout needs")
    return id_


def _run(marks: Sequence[int | None], text: int) -> tuple[int, int]:
    """The positions where the tokens of a text begin and end."""
    positions = [position for position, mark in enumerate(marks) if mark == text]
    if not positions:
        raise CheckpointError("the tokenizer gives no tokens for the letter 'a' or 'b'; is it the right file?")
    return positions[0], positions[-1] + 1
