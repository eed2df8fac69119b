"""The input, `Document`, and the result: a `Ranking` of `Hit` objects, each with its `Passage` objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, overload

from rerank_core.errors import InputError, short

__all__ = ["Document", "Hit", "Match", "Passage", "Ranking", "ScoreSpace", "Usage"]

ScoreSpace: TypeAlias = Literal["logit", "probability", "cosine", "dot", "maxsim", "rank", "combined"]


@dataclass(frozen=True)
class Document:
    """A text to rank, with the caller's id and metadata, which are returned unchanged."""

    text: str
    id: str | int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: object, where: str) -> Document:
        """The document that ``value`` stands for: a string, a mapping with ``text``, or a `Document`.

        Keys of a mapping other than ``text`` and ``id`` become the metadata.

        Args:
            where: the document's name in a message, such as "document 3".

        Raises:
            InputError: ``value`` is none of these, or its text is no string.
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
    """All documents of the caller, in the caller's order.

    Args:
        of: the owner of the documents in a message, such as " of query 3".

    Raises:
        InputError: ``values`` is a string, a mapping, a table, a set (it has no order) or not iterable, or a document
            is invalid.
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
    items = in_order(values, f"documents{of}", "a list of documents, in an order that hits can refer to")
    return tuple(Document.of(item, f"document {index}{of}") for index, item in enumerate(items))


def in_order(values: object, what: str, wanted: str) -> Iterator[Any]:
    """The items of a list or of another ordered iterable.

    Raises:
        InputError: ``values`` is a string, a mapping, a set, or not iterable.
    """
    if not isinstance(values, (str, bytes, Mapping, set, frozenset)):
        try:
            return iter(values)  # type: ignore[call-overload, no-any-return]
        except TypeError:  # also raised for a numpy array without dimensions, which is an Iterable
            pass
    raise InputError(f"{what} is {short(values)} ({type(values).__name__}); it must be {wanted}")


def query_of(value: object, where: str = "the query") -> str:
    """The caller's query, unchanged.

    Raises:
        InputError: ``value`` is no string, is empty, or is only white space.
    """
    if not isinstance(value, str):
        raise InputError(f"{where} is {short(value)} ({type(value).__name__}); it must be a string")
    if not value.strip():
        raise InputError(f"{where} is {short(value)}; it must not be empty")
    return value


@dataclass(frozen=True, slots=True)
class Passage:
    """One window of a document: ``text[start:stop]`` of the caller's raw text, and its raw score."""

    start: int
    stop: int
    score: float


@dataclass(frozen=True, slots=True)
class Match:
    """A token of the query and the most similar token of a document.

    Attributes:
        query, document: ``(start, stop)`` characters of the tokens in the caller's texts; None for tokens that are in
            neither text, such as ``[CLS]`` or the tokens of query expansion.
        weight: the match's contribution to the passage's raw score; the score is the sum over all matches.
        query_token, document_token: the tokens as spelt in the vocabulary.
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
        score: the score in the ranking's ``score_space``; higher is better.
        rank: 1 is best.
        index: the position in the caller's list.
        passages: the windows of the text that were scored, in text order, with raw scores.
        truncated: whether some of the text was not read; None where the scorer cannot tell.
        scores: every raw score of the model, by name; the first one ranks. With ``combine=``: ``combined``, the score
            of each model by the model's name, and ``first_stage`` where the document has one, as it was given.
        stage: the last stage of a cascade that scored the document, 0 without a cascade and with ``combine=``.
            Documents of a later stage rank above those of an earlier one: their scores come from different layers and
            cannot be compared.
        matches: with ``explain=True``, the token matches whose weights sum to the score of the best passage.
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
        """The passage with the highest score (the first of equal ones); None where there is no passage."""
        return max(self.passages, key=lambda passage: passage.score, default=None)

    def to_dict(self) -> dict[str, Any]:
        """The hit as plain data for JSON."""
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
    """The cost of a ranking.

    Attributes:
        tokens: tokens that the model computed, template included; windows that occur twice in a call are computed and
            counted once. None where the scorer has no tokens.
        passages: the number of windows.
        seconds: wall time of the call; the rankings of one call all have the same value.
    """

    tokens: int | None
    passages: int
    seconds: float


@dataclass(frozen=True)
class Ranking(Sequence[Hit]):
    """The hits of one query, best first. A sequence: iterate, index, slice, ``len``.

    Attributes:
        hits: best first, cut by ``top_k`` and ``min_score``.
        score_space: the kind of the scores: logit, probability, cosine, dot, maxsim, rank or combined.
        activation: the activation applied to the raw scores: ``none``, ``sigmoid`` or ``probability``.
        query_truncated: whether the query was cut.
        statistics: counts that a listwise model reports, such as calls and repaired answers.
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
        """One score per document of the caller, in the caller's order, including documents that are no hits.

        After a cascade the scores of different stages (`Hit.stage`) cannot be compared.
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
        """The ranking as plain data for JSON, with a ``schema_version``."""
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
