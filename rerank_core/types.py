"""What goes in (`Document`) and what comes out (`Ranking` of `Hit` of `Passage`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, overload

from rerank_core.errors import InputError, short

__all__ = ["Document", "Hit", "Match", "Passage", "Ranking", "ScoreSpace", "Usage"]

ScoreSpace: TypeAlias = Literal["logit", "probability", "cosine", "maxsim", "rank"]


@dataclass(frozen=True)
class Document:
    """A text to rank, with the caller's own id and anything else the caller wants back."""

    text: str
    id: str | int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, where: str) -> Document:
        """The document in ``value``: a string, a mapping with ``text``, or a `Document`.

        Keys of a mapping other than ``text`` and ``id`` become the metadata.

        Args:
            where: how a message names it, as in "document 3".

        Raises:
            InputError: anything else.
        """
        if isinstance(value, str):
            return cls(value)
        if isinstance(value, Document):
            text = value.text
        elif isinstance(value, Mapping):
            if "text" not in value:
                raise InputError(
                    f"{where} is a mapping without 'text' (it has {short(sorted(map(str, value)))}); "
                    "put the text to rank under 'text'"
                )
            text = value["text"]
        else:
            raise InputError(
                f"{where} is {short(value)} ({type(value).__name__}); "
                "a document is a string, a mapping with 'text', or a Document"
            )
        if not isinstance(text, str):
            raise InputError(f"the text of {where} is {short(text)} ({type(text).__name__}); it must be a string")
        if isinstance(value, Document):
            return value
        rest = {key: item for key, item in value.items() if key not in ("text", "id")}
        return cls(text, value.get("id"), rest)


def documents_of(values: object, of: str = "") -> tuple[Document, ...]:
    """The caller's documents in the caller's order; nothing is dropped.

    Args:
        of: how a message says whose they are, as in " of query 3".

    Raises:
        InputError: a bare string, a mapping, a set or table (no list, so no index), something that cannot be
            iterated, or a bad document.
    """
    if isinstance(values, (str, bytes, Mapping, Document)):
        raise InputError(
            f"documents{of} is one {type(values).__name__} ({short(values)}), not a list; "
            "wrap it: rerank(query, [document])"
        )
    if hasattr(values, "columns"):
        raise InputError(
            f"documents{of} is a {type(values).__name__}, and iterating over a table gives its column names; "
            "pass one column, table['text'], or table.to_dict('records')"
        )
    given = in_order(values, f"documents{of}", "a list of documents, in an order that hits can refer to")
    return tuple(Document.of(value, f"document {index}{of}") for index, value in enumerate(given))


def in_order(values: object, what: str, wanted: str) -> Iterator[Any]:
    """The items of a list or of anything else that gives them in an order.

    Raises:
        InputError: a string, a mapping, a set, or something that cannot be iterated.
    """
    if not isinstance(values, (str, bytes, Mapping, set, frozenset)):
        try:
            return iter(values)  # type: ignore[call-overload, no-any-return]
        except TypeError:  # also of an array without dimensions, which says that it is an Iterable
            pass
    raise InputError(f"{what} is {short(values)} ({type(values).__name__}); it must be {wanted}")


def query_of(value: object, where: str = "the query") -> str:
    """The caller's query, unchanged.

    Raises:
        InputError: not a string, empty, or only white space.
    """
    if not isinstance(value, str):
        raise InputError(f"{where} is {short(value)} ({type(value).__name__}); it must be a string")
    if not value.strip():
        raise InputError(f"{where} is {short(value)}; an empty query ranks nothing, so it is refused")
    return value


@dataclass(frozen=True, slots=True)
class Passage:
    """One window of a document: ``text[start:stop]`` of the caller's raw text, and its raw score."""

    start: int
    stop: int
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """A token of the query and the token of a document that is most like it.

    Attributes:
        query, document: their characters in the caller's texts; None for tokens that are in neither, such as
            ``[CLS]`` or those that fill up a query.
        weight: its share of the passage's raw score, which is the sum over all matches.
        query_token, document_token: the tokens as the vocabulary spells them.
    """

    query: tuple[int, int] | None
    document: tuple[int, int] | None
    weight: float
    query_token: str
    document_token: str


@dataclass(frozen=True)
class Hit:
    """One ranked document.

    Attributes:
        document: the caller's document, unchanged.
        score: in the ranking's ``score_space``; higher is better.
        rank: 1 is best.
        index: position in the caller's list.
        passages: what was read of the text, in text order, with raw scores.
        truncated: whether some of the text was not read; None where the scorer cannot tell.
        scores: every raw score the model gave, by name; the first one ranks.
        stage: how far the document went in a cascade, 0 without one. A later stage ranks above an earlier one
            whatever the scores, which are of different depths and do not compare.
        matches: with ``explain=True``, what the score of the best passage is the sum of.
    """

    document: Document
    score: float
    rank: int
    index: int
    passages: tuple[Passage, ...] = ()
    truncated: bool | None = False
    scores: Mapping[str, float] = field(default_factory=dict)
    stage: int = 0
    matches: tuple[Match, ...] = ()

    @property
    def best_passage(self) -> Passage | None:
        """The passage with the highest score, the first of equals; None where none was read."""
        return max(self.passages, key=lambda passage: passage.score, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "rank": self.rank,
            "score": self.score,
            "index": self.index,
            "id": self.document.id,
            "text": self.document.text,
            "metadata": dict(self.document.metadata),
            "truncated": self.truncated,
            "passages": [{"start": p.start, "stop": p.stop, "score": p.score} for p in self.passages],
            "scores": dict(self.scores),
            "stage": self.stage,
            "matches": [
                {
                    "query": m.query and list(m.query),
                    "document": m.document and list(m.document),
                    "weight": m.weight,
                    "query_token": m.query_token,
                    "document_token": m.document_token,
                }
                for m in self.matches
            ],
        }


@dataclass(frozen=True)
class Usage:
    """What a ranking cost.

    Attributes:
        tokens: token positions given to the model, template included; what stands in the call twice is computed and
            counted once. None where the scorer has no tokens.
        passages: windows scored.
        seconds: wall time of the call that made the ranking (a call for many queries is shared by them).
    """

    tokens: int | None
    passages: int
    seconds: float


@dataclass(frozen=True)
class Ranking(Sequence[Hit]):
    """The hits of one query, best first. A sequence: iterate, index, slice, ``len``.

    Attributes:
        hits: best first, cut by ``top_k`` and ``min_score``.
        score_space: what a score is: logit, probability, cosine, maxsim or rank.
        activation: what was applied to the raw scores: ``none`` or ``sigmoid``.
        query_truncated: whether ``max_query_length`` cut the query.
        statistics: what a listwise model reports of its work (repairs, calls).
    """

    query: str
    hits: tuple[Hit, ...]
    model: str
    score_space: ScoreSpace
    activation: str
    usage: Usage
    query_truncated: bool = False
    statistics: Mapping[str, Any] = field(default_factory=dict)
    _scores: tuple[float, ...] = field(default=(), repr=False)

    def scores(self) -> list[float]:
        """One score per document of the caller, in the caller's order, hits or not.

        After a cascade they are of different depths and do not compare; `Hit.stage` tells.
        """
        return list(self._scores)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, with a ``schema_version``."""
        return {
            "schema_version": 1,
            "model": self.model,
            "query": self.query,
            "query_truncated": self.query_truncated,
            "score_space": self.score_space,
            "activation": self.activation,
            "hits": [hit.to_dict() for hit in self.hits],
            "usage": {
                "tokens": self.usage.tokens,
                "passages": self.usage.passages,
                "seconds": self.usage.seconds,
            },
            "statistics": dict(self.statistics),
        }
