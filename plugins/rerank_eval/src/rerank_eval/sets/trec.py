"""Reads judgements and runs in the formats of TREC, BEIR and MS MARCO."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from rerank_core.records import RowError, read_lines, read_records

__all__ = ["Qrels", "Run", "read_qrels", "read_run"]

# Gains by query and document.
Qrels: TypeAlias = dict[str, dict[str, float]]
# Documents with their scores by query, best first; a file without scores has None.
Run: TypeAlias = dict[str, list[tuple[str, float | None]]]

_RECORDS = {".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".pq"}
_COLUMNS = ("query-id", "corpus-id", "score")


def read_qrels(path: Path, counts: Counter[str], encoding: str | None = None) -> Qrels:
    """Judgements: ``query 0 document grade`` (TREC), or ``query-id, corpus-id, score`` (BEIR), as text or records.

    A grade below 0 (spam, in some TREC tracks) becomes 0.

    Args:
        counts: counts documents of a query with different grades as ``conflicting``; the highest counts.

    Raises:
        InputError: the file cannot be read, or a line is no judgement.
    """
    qrels: Qrels = {}
    for number, query, document, grade in _judgements(path, encoding):
        gain = _number(grade, "grade", path, number)
        of_query = qrels.setdefault(query, {})
        counts["conflicting"] += of_query.get(document, gain) != gain
        of_query[document] = max(gain, of_query.get(document, 0.0), 0.0)
    return qrels


def _judgements(path: Path, encoding: str | None) -> Iterator[tuple[int, str, str, object]]:
    if _RECORDS & {suffix.lower() for suffix in path.suffixes}:
        for number, record in read_records(path, _COLUMNS, encoding=encoding):
            missing = [name for name in _COLUMNS if record.get(name) is None]
            if missing:
                raise RowError(f"it has no {' and no '.join(missing)}", "missing-key", str(path), number)
            yield number, str(record["query-id"]), str(record["corpus-id"]), record["score"]
        return
    for number, line in read_lines(path, encoding=encoding):
        fields = _fields(line)
        if len(fields) == 4:
            yield number, fields[0], fields[2], fields[3]
        elif len(fields) == 3 and number == 1 and fields[2].casefold() in ("score", "rel", "relevance", "label"):
            continue
        elif len(fields) == 3:
            yield number, fields[0], fields[1], fields[2]
        else:
            raise RowError(
                f"{line!r:.80} has {len(fields)} columns; a judgement has 4 (query, 0, document, grade) or 3 (query, "
                "document, grade)",
                "tsv-columns",
                str(path),
                number,
            )


def read_run(path: Path, counts: Counter[str], encoding: str | None = None) -> Run:
    """A run: ``query Q0 document rank score tag`` (TREC), or ``query document rank`` (MS MARCO).

    Documents are sorted by score, as trec_eval does, equal scores by rank.

    Args:
        counts: counts documents that a query has twice as ``repeated_documents`` (the better score counts), and
            queries whose ranks contradict the scores as ``reordered``.

    Raises:
        InputError: the file cannot be read, or a line is not of a run.
    """
    rows: dict[str, list[tuple[float, float, str]]] = {}
    scored: bool | None = None
    for number, line in read_lines(path, encoding=encoding):
        fields = _fields(line)
        if len(fields) not in (3, 5, 6) or scored not in (None, len(fields) > 3):
            raise RowError(
                f"{line!r:.80} has {len(fields)} columns; a line of a run has 6 (query, Q0, document, rank, score, "
                "tag), or in the whole file 3 (query, document, rank)",
                "tsv-columns",
                str(path),
                number,
            )
        scored = len(fields) > 3
        document, rank = (fields[2], fields[3]) if scored else (fields[1], fields[2])
        score = _number(fields[4], "score", path, number) if scored else 0.0
        rows.setdefault(fields[0], []).append((-score, _number(rank, "rank", path, number), document))
    run: Run = {}
    for query, documents in rows.items():
        documents.sort(key=lambda row: row[:2])
        ranks = [rank for _, rank, _ in documents]
        counts["reordered"] += ranks != sorted(ranks)
        best: dict[str, float | None] = {}
        for negated, _, document in documents:
            best.setdefault(document, -negated if scored else None)
        counts["repeated_documents"] += len(documents) - len(best)
        run[query] = list(best.items())
    return run


def _fields(line: str) -> list[str]:
    """The columns of a line: between tabs where it has enough of them, because an id may contain a space."""
    by_tabs = line.split("\t")
    return [field.strip() for field in by_tabs] if len(by_tabs) >= 3 else line.split()


def _number(value: object, what: str, path: Path, number: int) -> float:
    try:
        read = float(value) if isinstance(value, (str, int, float)) else math.nan
    except ValueError:
        read = math.nan
    if not math.isfinite(read):
        raise RowError(f"the {what} is {value!r:.80}; it must be a number", "not-a-number", str(path), number)
    return read
