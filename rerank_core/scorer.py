"""THE SEAM between the core, which schedules rows of token ids, and a backend, which turns them into scores.

The core never touches a tensor. A backend implements `Scorer`; a stranger with a remote API or a rule implements
`TextScorer`; a listwise model implements `ListRanker`. What else a scorer can do is asked by ``isinstance``
(`Resumable`, `Configurable`, `Stackable`, `Templated`, and the room `indexable`), so an author implements only what
the model has.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "Batch",
    "Configurable",
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
    "is_listwise",
]

Layout: TypeAlias = Literal["joint", "prefix", "separate"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, without special tokens, in compact arrays.

    Attributes:
        ids: token ids of the caller's text, nothing cut.
        starts, stops: ``starts[i]:stops[i]`` are the characters of token ``i`` in the caller's raw text.
        lead, tail: ids of the literal text before and after it in its template piece, as tokenized with it.
    """

    ids: array[int]
    starts: array[int]
    stops: array[int]
    lead: Sequence[int] = ()
    tail: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, count: int) -> Tokens:
        """The first ``count`` tokens, with the literal text around them."""
        return replace(self, ids=self.ids[:count], starts=self.starts[:count], stops=self.stops[:count])


NO_TOKENS = Tokens(array("i"), array("I"), array("I"))
"""The tokens of an empty text."""


@dataclass(frozen=True, slots=True)
class QueryRow:
    """Tokens of a query that its rows share: laid down once per batch, whatever the number of documents.

    Attributes:
        span: ``[start, stop)`` in ``ids`` of the query's own tokens.
        attended: how many of ``ids``, from the first, the others attend to; None for all. The rest only look
            (ColBERT's query augmentation).
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
        ids: token ids; the query's too where the layout is ``joint``.
        types: token types, or None where the model has none.
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
    """Rows that share a forward pass, and the query rows they refer to by ``Row.query``.

    ``queries`` is empty for ``joint``, holds the shared prefix for ``prefix`` and the query for ``separate``.
    """

    queries: Mapping[int, QueryRow]
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Output:
    """Raw scores of a batch: ``scores[name][i]`` belongs to ``rows[i]``; the first name ranks.

    ``state`` is whatever `Resumable.resume` needs to go on; opaque to the core.
    """

    scores: Mapping[str, Sequence[float]]
    state: Any = None


@runtime_checkable
class Scorer(Protocol):
    """Tokenize, assemble, forward. Must be safe to call from several threads.

    Attributes:
        layout: where the query's tokens are. ``joint``: inside each row (cross-encoder). ``prefix``: in a query
            row that the rows continue (causal LLM). ``separate``: in a query row of its own (late interaction).
        max_positions: the longest row the model can read; None where there is no such limit.
        packed: whether a batch costs the sum of its rows (True) or its longest row times their number (False).
        token_budget: tokens of a batch that suit this model on this device.
    """

    layout: Layout
    max_positions: int | None
    packed: bool

    @property
    def token_budget(self) -> int: ...

    def tokenize(self, texts: Sequence[str], side: Literal["query", "doc"]) -> list[Tokens]:
        """Tokens of each text, one for one, with no special tokens and nothing cut."""
        ...

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        """Tokens of a row of this document beside its own, without the query row's."""
        ...

    def query_row(self, query: Tokens) -> QueryRow | None:
        """What all rows of a query share; None where the layout is ``joint``."""
        ...

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        """The row for tokens ``start:stop`` of a document; ``owner`` is ``(query, doc, window)``."""
        ...

    def forward(self, batch: Batch) -> Output:
        """Raw scores of the batch's rows, in their order, as Python floats."""
        ...

    def close(self) -> None:
        """Let go of weights and handles; called once."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """A scorer whose forward stops early and can go on for chosen rows (a layer cascade).

    Attributes:
        keep: how many documents of each query go on after each stage; empty for a single stage.
    """

    keep: Sequence[int]

    def resume(self, state: Any, rows: Sequence[int]) -> Output:
        """The next stage for these positions of the batch (or of the previous resume), in their order."""
        ...


@runtime_checkable
class Configurable(Protocol):
    """A scorer with options that may change from call to call."""

    def configured(self, options: Mapping[str, Any]) -> Scorer | TextScorer | ListRanker:
        """A scorer that shares the weights and answers with these call options; ``self`` stays as it is."""
        ...


@runtime_checkable
class Stackable(Protocol):
    """A cross-encoder that can lay its rows out as BCEmbedding's ``rerank`` does (see `manners.CompatRules`)."""

    def stacked(self) -> Scorer:
        """A scorer that shares the weights and has that layout; ``self`` stays as it is."""
        ...


@runtime_checkable
class Templated(Protocol):
    """A scorer whose rows are written by a template of literal text.

    Attributes:
        parts: tokens of ``before``, ``between`` and ``after``.
    """

    @property
    def parts(self) -> Mapping[str, int]: ...


@runtime_checkable
class TextScorer(Protocol):
    """The door for remote APIs and rules: texts in, one float per document out, in their order."""

    def score(self, query: str, docs: Sequence[str]) -> Sequence[float]: ...


@dataclass(frozen=True, slots=True)
class Permutation:
    """``order[0]`` is the position of the best document; every position occurs once."""

    order: Sequence[int]
    statistics: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ListRanker(Protocol):
    """A model that orders a list and gives no scores (listwise LLMs)."""

    def rank(self, query: str, docs: Sequence[str]) -> Permutation: ...


def is_listwise(scorer: object) -> bool:
    """Whether a scorer has an order and no scores; one that has scores may well have an attribute ``rank`` too."""
    return isinstance(scorer, ListRanker) and not isinstance(scorer, (Scorer, TextScorer))


AnyScorer: TypeAlias = Scorer | TextScorer | ListRanker
"""What a loaded model may be."""
