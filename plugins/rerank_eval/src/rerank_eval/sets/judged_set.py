"""`JudgedSet`: queries with graded candidates, which every file format is read into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

__all__ = ["Candidate", "JudgedQuery", "JudgedSet", "SetFacts"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One document that a model ranks for a query.

    Attributes:
        id: the document's id in its set.
        gain: how relevant the document is, 0 for irrelevant; None where nobody judged it. Metrics read None as 0, and
            `Judged@k` counts it.
        first_stage: the retriever's score, higher is better; None where the file has none.
    """

    id: str
    text: str
    gain: float | None = None
    first_stage: float | None = None


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query and its candidates.

    Attributes:
        candidates: the documents, in the order in which models get them (see `JudgedSet.order`).
        others: gains of judged documents that are no candidates, by id. The ideal ranking includes them, because a
            first stage that missed them is not perfect.
        instruction: task description for models that follow instructions.
    """

    id: str
    text: str
    candidates: tuple[Candidate, ...]
    others: Mapping[str, float] = field(default_factory=dict)
    instruction: str | None = None

    @property
    def gains(self) -> list[float]:
        """``[candidates]``: the gain of each candidate, 0 where it is not judged."""
        return [candidate.gain or 0.0 for candidate in self.candidates]


@dataclass(frozen=True, slots=True)
class SetFacts:
    """Counts of what the reader met. Nothing that it changed or left out stays unsaid.

    Attributes:
        read: queries in the files, with rows of one query counted once.
        merged: rows that were merged into an earlier row of the same query.
        not_judged: queries left out, because nobody judged any document for them.
        without_positive, without_negative: queries left out, because no order of their candidates is
            better than another.
        without_candidates: queries left out, because the first stage found nothing for them.
        not_sampled: usable queries left out, because fewer were asked for.
        missed: queries with relevant documents, none of which is a candidate. They are kept: every order of a first
            stage's candidates counts 0 for them, as in published figures.
        repeated_documents: candidates left out because the query has the same document already: the same id, or an
            equal text where documents have no ids.
        equal_texts: candidates with an id of their own and the text of another candidate; they are kept.
        conflicting: documents that were judged several times with different gains; the highest counts.
        own_text: candidates left out because they equal the query's own text.
        blank_documents: candidates whose text is blank; they are kept.
        reordered: queries whose ranks in the run contradict the scores; the scores count.
        below_top: candidates of the first stage left out, because fewer were asked for.
        unjudged: candidates without a judgement.
        unread_keys: keys of the records that no format reads, such as a misspelled one.
    """

    read: int = 0
    merged: int = 0
    not_judged: int = 0
    without_positive: int = 0
    without_negative: int = 0
    without_candidates: int = 0
    not_sampled: int = 0
    missed: int = 0
    repeated_documents: int = 0
    equal_texts: int = 0
    conflicting: int = 0
    own_text: int = 0
    blank_documents: int = 0
    reordered: int = 0
    below_top: int = 0
    unjudged: int = 0
    unread_keys: tuple[str, ...] = ()

    def notes(self) -> list[str]:
        """A sentence for each count that is not 0, and one for unread keys.

        >>> SetFacts(read=3, without_negative=1).notes()
        ['1 of 3 queries left out: no negative']
        """
        of_read = f"of {self.read:,} queries"
        counts = {
            "merged": "rows merged into an earlier row of the same query",
            "not_judged": f"{of_read} left out: no document is judged",
            "without_positive": f"{of_read} left out: no positive",
            "without_negative": f"{of_read} left out: no negative",
            "without_candidates": f"{of_read} left out: the first stage found nothing",
            "not_sampled": f"{of_read} left out: not drawn",
            "missed": "queries kept without a relevant candidate: the first stage missed it",
            "repeated_documents": "candidates left out: the query has the same document already",
            "equal_texts": "candidates kept with the text of another candidate",
            "conflicting": "documents judged with different gains: the highest counts",
            "own_text": "candidates left out: the query's own text",
            "blank_documents": "candidates kept with a blank text",
            "reordered": "queries whose ranks in the run contradict the scores: the scores count",
            "below_top": "candidates left out: ranked too low by the first stage",
            "unjudged": "candidates without a judgement: counted as not relevant",
        }
        lines = [f"{count:,} {words}" for name, words in counts.items() if (count := getattr(self, name))]
        return lines + ([f"keys that are not read: {', '.join(self.unread_keys)}"] if self.unread_keys else [])


@dataclass(frozen=True)
class JudgedSet:
    """A named set of queries with graded candidates.

    Attributes:
        order: the order of the candidates: ``first-stage`` (best first, as a retriever gave them), or ``shuffled``,
            with a fixed seed, where the order of the file says nothing or lists relevant documents first.
        first_stage: the retriever's name, such as ``BM25`` or ``file``; None where there is none.
        label_source: where the gains come from: ``file``, ``clicked``, ``thumb`` or ``label`` of feedback, or the name
            of a judge.
        label_notes: what the reader of a figure must know about the gains, a sentence each.
    """

    name: str
    queries: tuple[JudgedQuery, ...]
    order: Literal["first-stage", "shuffled"] = "shuffled"
    first_stage: str | None = None
    facts: SetFacts = field(default_factory=SetFacts)
    label_source: str = "file"
    label_notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        """A digest of what models read: queries, and the texts of their candidates in order.

        Kept results name their set by it. It does not depend on gains, so that they stay valid when judgements change.
        """
        state = hashlib.blake2b(digest_size=16)
        for query in self.queries:
            parts = [query.id, query.text, query.instruction, [one.first_stage for one in query.candidates]]
            state.update(json.dumps(parts).encode() + b"\n")
            for one in query.candidates:
                text = one.text.encode("utf-8", "surrogatepass")
                state.update(b"%d " % len(text) + text)
        return state.hexdigest()
