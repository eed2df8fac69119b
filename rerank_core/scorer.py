"""The interface between the core, which schedules rows of token ids, and a backend, which turns them into scores.

The core never handles tensors. A backend implements `Scorer`; a remote API or a rule implements `TextScorer`; a
listwise model implements `ListRanker`. Optional capabilities are separate protocols, tested with ``isinstance``
(`Resumable`, `Configurable`, `Stackable`, `Templated`, and those of `rerank_core.index.protocols` and
`rerank_core.planning.parallel`), so an author implements only those that the model has.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "Batch",
    "ComparableTokens",
    "Configurable",
    "Identified",
    "Layout",
    "ListRanker",
    "Output",
    "Permutation",
    "QueryRow",
    "Resumable",
    "Row",
    "Scorer",
    "Stackable",
    "Templated",
    "TextScorer",
    "Tokens",
    "cascades",
    "is_listwise",
]

Layout: TypeAlias = Literal["joint", "prefix", "separate"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, without special tokens, in compact arrays.

    Attributes:
        ids: all token ids of the caller's text.
        starts, stops: ``starts[i]:stops[i]`` are the characters of token ``i`` in the caller's raw text.
        lead, tail: token ids of the template piece's literal text before and after the caller's text; the piece is
            tokenized as one string.
        inner_tail: what ``tail`` is after any token but the last, where the tokenizer merges the last one with literal
            text (a full stop with a line break); None where it merges nothing.
    """

    ids: array[int]
    starts: array[int]
    stops: array[int]
    lead: Sequence[int] = ()
    tail: Sequence[int] = ()
    inner_tail: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Tokens:
        """The first ``count`` tokens, with the literal text around them."""
        starts, stops, tail = self.starts[:count], self.stops[:count], self.tail_after(count)
        return replace(self, ids=self.ids[:count], starts=starts, stops=stops, tail=tail)

    def tail_after(self, stop: int) -> Sequence[int]:
        """The literal text after tokens that end at ``stop``."""
        return self.tail if stop >= len(self) or self.inner_tail is None else self.inner_tail

    @property
    def literal_length(self) -> int:
        """The most tokens of literal text around any of the text's tokens: a row's overhead counts them."""
        return len(self.lead) + max(len(self.tail), len(self.inner_tail or ()))

    def row_length(self, overhead: int, start: int, stop: int) -> int:
        """The length of a row with tokens ``start:stop``, which may have less literal text than its overhead counts."""
        return overhead - self.literal_length + len(self.lead) + stop - start + len(self.tail_after(stop))


NO_TOKENS = Tokens(array("i"), array("I"), array("I"))
"""The tokens of an empty text."""


@dataclass(frozen=True, slots=True)
class QueryRow:
    """Tokens of a query that all its rows share. A batch holds them once, however many documents the query has.

    Attributes:
        span: ``[start, stop)`` in ``ids`` of the query's own tokens.
        attended: only the first ``attended`` ids are attended to; None for all. Later ids attend but are not attended
            to (ColBERT's [MASK] expansion).
    """

    ids: Sequence[int]
    types: Sequence[int] | None = None
    span: tuple[int, int] = (0, 0)
    attended: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One passage as the model reads it.

    Attributes:
        query: position in the caller's list of queries, for every layout.
        doc: position in that query's documents.
        window: which window of the document.
        ids: token ids; they include the query's where the layout is ``joint``.
        types: token type ids, or None where the model has none.
        segment: ``[start, stop)`` in ``ids`` of the document's part of the template.
        span: ``[start, stop)`` in ``ids`` of the document's own tokens.
    """

    query: int
    doc: int
    window: int
    ids: Sequence[int]
    types: Sequence[int] | None
    segment: tuple[int, int]
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that share a forward pass, and the query rows that ``Row.query`` refers to.

    ``queries`` is empty for the layout ``joint``, holds the shared prefixes for ``prefix`` and the queries for
    ``separate``.
    """

    queries: Mapping[int, QueryRow]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Output:
    """Raw scores of a batch: ``scores[name][i]`` belongs to ``rows[i]``; the scores of the first name rank.

    ``state`` is passed to `Resumable.resume` to continue; the core does not look into it.
    """

    scores: Mapping[str, Sequence[float]]
    state: Any = None


@runtime_checkable
class Scorer(Protocol):
    """Tokenizes texts, assembles rows and runs the forward pass. Must be safe to call from several threads.

    Attributes:
        layout: where the query's tokens are. ``joint``: inside each row (cross-encoder). ``prefix``: in a query row,
            a prefix that the rows continue (causal LLM). ``separate``: in a query row of its own (late interaction).
        max_positions: the most tokens a row may have; None if unlimited.
        packed: True where a batch costs the sum of its rows' lengths; False where it costs the longest row's length
            times the number of rows (padding).
        token_budget: the number of tokens in a batch that suits this model and device.
    """

    layout: Layout
    max_positions: int | None
    packed: bool

    @property
    def token_budget(self) -> int: ...

    def tokenize(self, texts: Sequence[str], side: Literal["query", "doc"]) -> list[Tokens]:
        """The tokens of each text, in the order of the texts, without special tokens and without truncation."""
        ...

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        """The number of tokens of a row that are not the document's, without those of the query row."""
        ...

    def query_row(self, query: Tokens) -> QueryRow | None:
        """The tokens that all rows of a query share; None where the layout is ``joint``."""
        ...

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        """The row for tokens ``start:stop`` of a document; ``owner`` is ``(query, doc, window)``."""
        ...

    def forward(self, batch: Batch) -> Output:
        """Raw scores of the batch's rows, in their order, as Python floats."""
        ...

    def close(self) -> None:
        """Free weights and handles; called once."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A scorer whose forward pass stops at a layer and can continue for selected rows (a layer cascade).

    Attributes:
        keep: how many documents of each query go on after each stage; empty for a single stage.
    """

    keep: Sequence[int]

    def resume(self, state: Any, rows: Sequence[int]) -> Output:
        """The scores of the next stage for these rows of the batch (or of the previous resume), in this order."""
        ...


@runtime_checkable
class Configurable(Protocol):
    """A scorer with options that can differ between calls."""

    def configured(self, options: Mapping[str, Any]) -> Scorer | TextScorer | ListRanker:
        """A scorer with these call options that shares the weights; ``self`` does not change."""
        ...


@runtime_checkable
class Stackable(Protocol):
    """A cross-encoder that can build rows as BCEmbedding's ``rerank`` does (see `CompatRules.stacked`)."""

    def stacked(self) -> Scorer:
        """A scorer with that layout that shares the weights; ``self`` does not change."""
        ...


@runtime_checkable
class Templated(Protocol):
    """A scorer whose rows contain literal text of a template.

    Attributes:
        parts: the number of tokens of the template's ``before``, ``between`` and ``after``.
    """

    @property
    def parts(self) -> Mapping[str, int]: ...


@runtime_checkable
class Identified(Protocol):
    """A scorer whose scores depend on more than the spec, the options and the files of the folders that ``locate``
    returned: a remote model, files from elsewhere, weights in memory."""

    def identity(self) -> Mapping[str, Any]:
        """All of that, as plain data, equal in every process: a URL, the digest of a file. No secrets."""
        ...


@runtime_checkable
class ComparableTokens(Protocol):
    """A scorer that tells whether another one tokenizes alike, so that an ensemble tokenizes its texts once."""

    def token_key(self, side: Literal["query", "doc"]) -> Hashable:
        """Two scorers with equal keys give equal tokens for every text."""
        ...


@runtime_checkable
class TextScorer(Protocol):
    """A scorer of whole texts, for remote APIs and rules: one float per document, in the order of the documents."""

    def score(self, query: str, docs: Sequence[str]) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Permutation:
    """A ranking without scores: ``order[0]`` is the position of the best document; every position occurs once."""

    order: Sequence[int]
    statistics: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ListRanker(Protocol):
    """A model that orders a list of documents without scores (listwise LLMs)."""

    def rank(self, query: str, docs: Sequence[str]) -> Permutation: ...


def is_listwise(scorer: object) -> bool:
    """Whether a scorer gives only an order. A scorer that gives scores may have an attribute ``rank`` as well."""
    return isinstance(scorer, ListRanker) and not isinstance(scorer, (Scorer, TextScorer))


def cascades(scorer: object) -> bool:
    """Whether a scorer's scores come from several stages, so that those of different stages cannot be compared."""
    return isinstance(scorer, Resumable) and bool(scorer.keep)


AnyScorer: TypeAlias = Scorer | TextScorer | ListRanker
"""Any scorer that a `Reranker` accepts."""
