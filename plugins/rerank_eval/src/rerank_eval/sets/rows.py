"""Reads files of rows, each a query with its documents: every format that `rerank train` reads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rerank_core import InputError
from rerank_core.records import (
    Record,
    RowError,
    TrainingRow,
    expand_paths,
    format_of,
    read_records,
    to_training_row,
    unread_keys,
)
from rerank_eval.sets.judged_set import Candidate, JudgedQuery

__all__ = ["RowSet", "pooled", "read_rows"]


@dataclass
class RowSet:
    """The queries of row files, each with the documents of its rows.

    Attributes:
        unread_keys: keys that no format reads.
        scored: queries without labels whose documents have scores.
    """

    queries: list[JudgedQuery] = field(default_factory=list)
    unread_keys: set[str] = field(default_factory=set)
    scored: int = 0


@dataclass
class _Query:
    """A query in the making. Its documents are by text; a document's id is its position in the rows of the query."""

    row: TrainingRow
    documents: dict[str, Candidate] = field(default_factory=dict)
    seen: int = 0
    scored: bool = False

    def add(self, text: str, gain: float | None, score: float | None, counts: Counter[str]) -> None:
        first = self.documents.get(text)
        new = Candidate(str(self.seen), text, gain, score)
        self.seen += 1
        if first is not None:
            counts["repeated_documents"] += 1
            gains = [one for one in (first.gain, gain) if one is not None]
            counts["conflicting"] += len(set(gains)) > 1
            scores = [one for one in (first.first_stage, score) if one is not None]
            new = Candidate(first.id, text, max(gains, default=None), max(scores, default=None))
        self.documents[text] = new


def read_rows(named: str, scores: str | None, counts: Counter[str], encoding: str | None = None) -> RowSet:
    """Read a file, or the files of a pattern.

    Args:
        scores: what the scores of rows are: ``first-stage``, ``gains``, or None if they are not read.
        counts: counts merged rows, repeated documents and conflicting gains.
        encoding: of files that are not UTF-8.

    Raises:
        InputError: a file cannot be read, or a row is unusable, with its file and line.
    """
    found = RowSet()
    queries: dict[tuple[str, str | None], _Query] = {}
    keys_seen: set[frozenset[str]] = set()
    for path in expand_paths([named]):
        for number, record in read_records(path, encoding=encoding):
            _add(queries, record, scores, counts, (path, number))
            keys = frozenset(key for key, value in record.items() if value is not None)
            if keys not in keys_seen:
                keys_seen.add(keys)
                found.unread_keys.update(unread_keys(record))
    if not queries:
        raise InputError(f"{named!r} has no records; check the program that wrote it")
    for query in queries.values():
        documents = tuple(query.documents.values())
        found.queries.append(
            JudgedQuery(query.row.id or "", query.row.query, documents, instruction=query.row.instruction)
        )
        found.scored += query.scored and all(one.gain is None for one in documents)
    _make_ids_unique(found.queries)
    return found


def _row(record: Record, scores: str | None, row_id: str) -> TrainingRow:
    row = to_training_row(record, scores_are="labels" if scores == "gains" else "teacher", row_id=row_id)
    if row.labels is None and format_of(record) == "text":
        raise RowError("it has a query and no documents", "no-docs")
    if not row.query.strip():
        raise RowError(f"the query is {row.query!r}; it must have a text", "blank-query")
    return row


def _add(
    queries: dict[tuple[str, str | None], _Query],
    record: Record,
    scores: str | None,
    counts: Counter[str],
    where: tuple[Path, int],
) -> None:
    """Add the documents of a record to its query."""
    try:
        row = _row(record, scores, f"{where[0].name}:{where[1]}")
        _add_row(queries, row, scores, counts)
    except RowError as error:
        raise error.at(str(where[0]), where[1]) from error


def _add_row(
    queries: dict[tuple[str, str | None], _Query], row: TrainingRow, scores: str | None, counts: Counter[str]
) -> None:
    query = queries.setdefault((row.query, row.instruction), _Query(row))
    # A line with one document is a part of its query, and merging it is no news.
    counts["merged"] += query.seen > 0 and len(row.docs) > 1
    labels, first_stage = row.labels, row.scores if scores == "first-stage" else None
    if scores == "gains" and row.scores is not None:
        if labels is not None:
            raise RowError("it has labels and scores; scores=gains is for rows without labels", "ambiguous-format")
        labels = row.scores
    for values, name in ((labels, "labels"), (first_stage, "scores")):
        if values is not None and not all(map(math.isfinite, values)):
            raise RowError(f"its {name} are {values!r:.80}; they must be finite numbers", "not-finite")
    query.scored = query.scored or row.scores is not None
    for position, text in enumerate(row.texts):
        # A label below 0 means not relevant, as 0 does.
        gain = None if labels is None else max(labels[position], 0.0)
        query.add(text, gain, None if first_stage is None else first_stage[position], counts)


def pooled(queries: Sequence[JudgedQuery], documents: Mapping[str, str]) -> tuple[list[JudgedQuery], dict[str, str]]:
    """The documents of all queries as one collection, and the queries without candidates, their gains in ``others``.

    Args:
        documents: more documents by id; a text among them keeps its id, and any other has the id ``QUERY/POSITION``.
    """
    collection = dict(documents)
    ids = {text: key for key, text in documents.items()}
    found: list[JudgedQuery] = []
    for query in queries:
        gains: dict[str, float] = {}
        for one in query.candidates:
            key = ids.setdefault(one.text, f"{query.id}/{one.id}")
            collection[key] = one.text
            if one.gain is not None:
                gains[key] = one.gain
        found.append(replace(query, candidates=(), others=gains))
    return found, collection


def _make_ids_unique(queries: list[JudgedQuery]) -> None:
    """Number the queries whose id an earlier query has: ids of several files, or of lines, may be the same."""
    seen: Counter[str] = Counter()
    for position, query in enumerate(queries):
        seen[query.id] += 1
        if seen[query.id] > 1:
            queries[position] = replace(query, id=f"{query.id}#{seen[query.id]}")
