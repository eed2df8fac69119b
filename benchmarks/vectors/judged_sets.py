"""The test sets: queries with graded documents among the texts of one pool, whose texts are encoded once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy
from parts.quality import judged

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.mining import BM25

__all__ = ["SETS", "JudgedSet"]

_DEPTH = 100
_MOST_QUERIES = 1000


@dataclass(frozen=True, eq=False)
class JudgedSet:
    """Queries with graded documents.

    Attributes:
        pool: all texts, without duplicates.
        rows: queries with their candidates, shuffled, from ``pool``; empty where nothing is reranked.
        searches: queries with the grade of each relevant text by its position in ``pool``; empty where nothing is
            searched.
    """

    pool: tuple[str, ...]
    rows: tuple[TrainingRow, ...] = ()
    searches: tuple[tuple[str, Mapping[int, float]], ...] = ()

    @cached_property
    def places(self) -> dict[str, int]:
        """The position of each text in ``pool``."""
        return {text: place for place, text in enumerate(self.pool)}

    def first(self, queries: int) -> JudgedSet:
        """The same pool with the first queries only."""
        return JudgedSet(self.pool, self.rows[:queries], self.searches[:queries])


def of_rows(rows: Iterable[TrainingRow]) -> JudgedSet:
    """Rows whose own candidates are ranked; at most 1,000 of them, drawn with a fixed seed."""
    kept = drawn(rows)
    return JudgedSet(tuple(dict.fromkeys(text for row in kept for text in row.docs)), kept)


def of_collection(
    name: str,
    documents: Mapping[str, str],
    queries: Mapping[str, str],
    grades: Mapping[str, Mapping[str, int]],
    *,
    rerank: bool,
) -> JudgedSet:
    """A collection that is searched whole, and reranked from BM25's 100 best texts (k1 0.9, b 0.4).

    Args:
        documents, queries: texts by id.
        grades: of the judged documents of each query; above 0 is relevant.
        rerank: whether queries have candidates, too.
    """
    pool = tuple(dict.fromkeys(text for text in documents.values() if text.strip()))
    places = {text: place for place, text in enumerate(pool)}
    kept = drawn(key for key in queries if any(grade > 0 for grade in grades.get(key, {}).values()))
    gains: list[dict[int, float]] = []
    for key in kept:
        own: dict[int, float] = {}
        for doc, grade in grades[key].items():
            place = places.get(documents.get(doc, ""))
            if grade > 0 and place is not None:
                own[place] = max(own.get(place, 0.0), float(grade))
        gains.append(own)
    searches = tuple((queries[key], own) for key, own in zip(kept, gains, strict=True) if own)
    if not rerank:
        return JudgedSet(pool, searches=searches)
    bm25 = BM25(pool)
    candidates = (
        (key, queries[key], [(str(place), pool[place], round(own.get(place, 0))) for place in best(bm25, queries[key])])
        for key, own in zip(kept, gains, strict=True)
    )
    return JudgedSet(pool, tuple(judged.as_rows(name, candidates)), searches)


def best(bm25: BM25, query: str) -> list[int]:
    """Positions of the 100 best texts that share a term with the query."""
    scores = bm25.scores(query)
    order = numpy.argsort(-scores, kind="stable")[:_DEPTH]
    return [int(place) for place in order if scores[place] > 0]


def drawn(items: Iterable[object]) -> tuple:
    """At most 1,000 items in an order shuffled with a fixed seed, so that the first few are a sample, too."""
    shuffled = list(items)
    random.Random("judged set").shuffle(shuffled)
    return tuple(shuffled[:_MOST_QUERIES])


def _collection(data: Path, name: str, key: str, *, rerank: bool) -> JudgedSet:
    return of_collection(name, *judged.readers(data).CORPUS[key](), rerank=rerank)


SETS: dict[str, Callable[[Path], JudgedSet]] = {
    "wikiqa": lambda data: of_rows(judged.rows_of(data, "en_wikiqa/test")),
    "dl19": lambda data: of_rows(judged.dl19(data)),
    "nfcorpus": lambda data: _collection(data, "nfcorpus", "en_nfcorpus/test", rerank=True),
    "scifact": lambda data: _collection(data, "scifact", "en_scifact", rerank=True),
    "cepilepsyqa": lambda data: of_rows(judged.rows_of(data, "zh_cepilepsyqa/dev")),
    "cmedir": lambda data: of_rows(judged.cmedir(data)[1]),
    "cmrc": lambda data: _collection(data, "cmrc", "zh_cmrc2018/dev", rerank=False),
    "xquad-zh": lambda data: _collection(data, "xquad-zh", "zh_xquad", rerank=False),
}
"""Each set by name. cMedIR is its test split, whose queries are left out of the training split."""
