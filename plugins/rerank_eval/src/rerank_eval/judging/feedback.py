"""``--labels``: clicks, thumbs or labels from a file, for sets that have none.

Each record has a query (``query``: its text, or ``query_id``), a document (``doc``: its text, or ``id``) and one of
``clicked`` (true or false), ``thumb`` (up or down) and ``label`` (a number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from rerank_core import InputError
from rerank_core.records import Record, RowError, read_records
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["FeedbackFacts", "with_feedback"]

_QUERY_TEXTS, _QUERY_IDS = ("query", "question"), ("query_id", "query-id", "qid")
_DOC_TEXTS, _DOC_IDS = ("doc", "document", "text", "passage"), ("id", "doc_id", "docid", "corpus-id")
_KINDS = ("clicked", "thumb", "label")
_COLUMNS = (*_QUERY_TEXTS, *_QUERY_IDS, *_DOC_TEXTS, *_DOC_IDS, *_KINDS)
_CLICKS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}
_THUMBS = {"up": 1.0, "down": -1.0, "👍": 1.0, "👎": -1.0, "1": 1.0, "-1": -1.0, "true": 1.0, "false": -1.0}

# Number of the set, number of the query, id of the document.
_Place: TypeAlias = tuple[int, int, str]


@dataclass(frozen=True)
class FeedbackFacts:
    """What the reader of feedback met.

    Attributes:
        kind: ``clicked``, ``thumb`` or ``label``.
        records: in the file.
        pairs: of a query and a document that got a label.
        unmatched: records whose query or document is in no set without judgements; ``first_unmatched`` is the line.
        undecided: pairs with as many thumbs up as down; they get no label.
        conflicting: pairs with different labels; the highest counts.
    """

    kind: str
    records: int
    pairs: int
    unmatched: int
    first_unmatched: int | None
    undecided: int
    conflicting: int

    def notes(self) -> list[str]:
        """A sentence for each thing that the reader of a figure must know."""
        lines = [f"labels by {self.kind}: {self.pairs:,} pairs, from {self.records:,} records"]
        if self.unmatched:
            lines.append(
                f"{self.unmatched:,} records match no query and candidate; the first is line {self.first_unmatched}"
            )
        if self.undecided:
            lines.append(f"{self.undecided:,} pairs have as many thumbs up as down: not judged")
        if self.conflicting:
            lines.append(f"{self.conflicting:,} pairs have different labels: the highest counts")
        return lines


def with_feedback(
    sets: Sequence[JudgedSet], path: Path, encoding: str | None = None
) -> tuple[list[JudgedSet], FeedbackFacts]:
    """The sets with labels from a file; afterwards `sets.usable.usable` leaves out the queries that have none.

    A document is relevant if it was clicked at least once, or has more thumbs up than down. It is not relevant if it
    was shown and never clicked, or has more thumbs down. A set that has judgements keeps them.

    Args:
        sets: read with ``need_labels=False``.
        encoding: of a file that is not UTF-8.

    Raises:
        InputError: the file cannot be read, a record has no query, document or opinion, the file mixes kinds, nothing
            matches, or every set has judgements.
    """
    matcher = _Matcher(sets)
    values: dict[_Place, list[float]] = {}
    kind = ""
    records, unmatched = 0, list[int]()
    for number, record in read_records(path, _COLUMNS, encoding=encoding):
        try:
            own, value = _opinion(record)
            if kind not in ("", own):
                raise RowError(f"it has {own!r}, and the records before it {kind!r}; keep one kind", "mixed-kinds")
            places = matcher.places(record)
        except RowError as error:
            raise error.at(str(path), number) from error
        kind, records = own, records + 1
        if not places:
            unmatched.append(number)
        for place in places:
            values.setdefault(place, []).append(value)
    if not values:
        raise InputError(
            f"none of the {records:,} records of {str(path)!r} matches a query and a candidate; give texts or ids as "
            "they are in the data"
        )
    gains = {place: gain for place, given in values.items() if (gain := _COMBINED[kind](given)) is not None}
    facts = FeedbackFacts(
        kind,
        records,
        len(gains),
        len(unmatched),
        unmatched[0] if unmatched else None,
        len(values) - len(gains),
        sum(len(set(given)) > 1 for given in values.values()) if kind == "label" else 0,
    )
    return _labelled(sets, gains, facts), facts


def _majority(thumbs: Sequence[float]) -> float | None:
    balance = sum(thumbs)
    return None if balance == 0 else float(balance > 0)


_COMBINED: Mapping[str, Callable[[Sequence[float]], float | None]] = {
    "clicked": max,
    "thumb": _majority,
    "label": lambda labels: max(*labels, 0.0),
}


def _labelled(sets: Sequence[JudgedSet], gains: Mapping[_Place, float], facts: FeedbackFacts) -> list[JudgedSet]:
    by_query: dict[tuple[int, int], dict[str, float]] = {}
    for (number, at, key), gain in gains.items():
        by_query.setdefault((number, at), {})[key] = gain
    labelled = list(sets)
    for number in {number for number, _ in by_query}:
        queries = list(sets[number].queries)
        for at, query in enumerate(queries):
            own = by_query.get((number, at), {})
            candidates = tuple(replace(one, gain=own.pop(one.id, None)) for one in query.candidates)
            queries[at] = replace(query, candidates=candidates, others=own)
        labelled[number] = replace(
            sets[number], queries=tuple(queries), label_source=facts.kind, label_notes=tuple(facts.notes())
        )
    return labelled


class _Matcher:
    """Finds the query and the document of a record, in the sets without judgements.

    Raises:
        InputError: every set has judgements.
    """

    def __init__(self, sets: Sequence[JudgedSet]) -> None:
        self._sets = sets
        self._queries: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self._documents: dict[tuple[int, int], dict[tuple[str, str], str]] = {}
        without = [number for number, judged in enumerate(sets) if not _has_labels(judged)]
        if not without:
            names = ", ".join(repr(judged.name) for judged in sets)
            raise InputError(f"labels are for sets without judgements, and {names} have some; leave them out")
        for number in without:
            for at, query in enumerate(sets[number].queries):
                for key in (("text", query.text.strip()), ("id", query.id)):
                    self._queries.setdefault(key, []).append((number, at))

    def places(self, record: Record) -> list[_Place]:
        """Where the pair of a record is.

        Raises:
            RowError: the record has no query or no document.
        """
        query = _key(record, _QUERY_TEXTS, _QUERY_IDS, "query")
        document = _key(record, _DOC_TEXTS, _DOC_IDS, "document")
        found = []
        for number, at in self._queries.get(query, ()):
            known = self._documents_of(number, at).get(document)
            if known is None and document[0] == "id" and self._sets[number].order == "first-stage":
                # A relevant document that the first stage missed counts in the ideal ranking.
                known = document[1]
            if known is not None:
                found.append((number, at, known))
        return found

    def _documents_of(self, number: int, at: int) -> Mapping[tuple[str, str], str]:
        if (number, at) not in self._documents:
            self._documents[number, at] = {
                key: one.id
                for one in reversed(self._sets[number].queries[at].candidates)
                for key in (("text", one.text.strip()), ("id", one.id))
            }
        return self._documents[number, at]


def _has_labels(judged: JudgedSet) -> bool:
    return any(query.others or any(one.gain is not None for one in query.candidates) for query in judged.queries)


def _key(record: Record, texts: Sequence[str], ids: Sequence[str], what: str) -> tuple[str, str]:
    """``("text", TEXT)`` or ``("id", ID)`` of the query or the document of a record."""
    for kind, keys in (("id", ids), ("text", texts)):
        value = next((record[key] for key in keys if record.get(key) is not None), None)
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            return kind, str(value).strip()
        if value is not None:
            raise RowError(f"its {what} is {value!r:.80}; it must be a text", "not-a-string")
    raise RowError(f"it has no {what}; give its text as {texts[0]!r} or its id as {ids[0]!r}", "missing-key")


def _opinion(record: Record) -> tuple[str, float]:
    """The kind of a record and its value: 1 or 0 of a click, 1 or -1 of a thumb, or a label."""
    given = [key for key in _KINDS if record.get(key) is not None]
    if len(given) != 1:
        raise RowError(f"it has {' and '.join(given) or 'none'} of {', '.join(_KINDS)}; give one", "missing-key")
    (kind,) = given
    value = record[kind]
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    text = f"{value:g}" if is_number else str(value).strip().casefold()
    known = {"clicked": _CLICKS, "thumb": _THUMBS, "label": {}}[kind]
    try:
        read = known[text] if known else float(text)
    except (KeyError, ValueError):
        read = math.nan
    if not math.isfinite(read):
        valid = {"clicked": "true or false", "thumb": "up or down", "label": "a number"}[kind]
        raise RowError(f"{kind} is {value!r:.80}; it must be {valid}", "bad-value")
    return kind, read
