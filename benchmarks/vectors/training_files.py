"""The training files, written once to a cache folder from the data folder; never part of the repository."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parts.quality import judged

import rerank_core
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.mining import BM25, Corpus, MiningRules, mine
from rerank_trainers.teachers.label import label

__all__ = ["FILES", "TrainingFiles", "one_positive", "taught", "training_files", "without"]

_NEGATIVES = MiningRules(negatives=7, depth=50, from_rank=3, strategy="random", fill="random")
"""Seven of BM25's ranks 3 to 50; the best ranks are often relevant texts that nobody judged."""


@dataclass(frozen=True)
class TrainingFiles:
    """The files of a run; ``dev`` is None where the last weights are measured and nothing is chosen."""

    train: Path
    dev: Path | None = None


@dataclass(frozen=True)
class _Rows:
    train: Sequence[TrainingRow]
    dev: Sequence[TrainingRow] = ()


def one_positive(row: TrainingRow) -> TrainingRow:
    """The row with one relevant document of its best grade, drawn with a fixed seed, and all irrelevant ones."""
    labels = row.labels or ()
    best = [place for place, grade in enumerate(labels) if grade == max(labels)]
    chosen = random.Random(f"positive {row.id}").choice(best)
    kept = [chosen, *(place for place, grade in enumerate(labels) if grade <= 0)]
    return replace(row, docs=tuple(row.docs[place] for place in kept), labels=(1.0, *[0.0] * (len(kept) - 1)))


def mined(rows: Sequence[TrainingRow], texts: Iterable[str]) -> list[TrainingRow]:
    """Rows with one relevant document, and negatives that BM25 finds in texts; none is relevant to its query."""
    corpus = Corpus.of(texts)
    return [one_positive(row) for row in mine(rows, corpus, BM25(corpus.texts), _NEGATIVES)]


def without(rows: Iterable[TrainingRow], queries: Iterable[str]) -> list[TrainingRow]:
    """The rows whose query is none of the given ones."""
    left_out = set(queries)
    return [row for row in rows if row.query not in left_out]


def _positives(
    name: str, documents: Mapping[str, str], queries: Mapping[str, str], grades: Mapping[str, Mapping[str, int]]
) -> list[TrainingRow]:
    """A row for each query with its relevant documents."""
    rows = []
    for key, query in queries.items():
        own = {documents[doc]: float(grade) for doc, grade in grades[key].items() if grade > 0 and doc in documents}
        if own:
            rows.append(TrainingRow(query, tuple(own), tuple(own.values()), id=f"{name}:{key}"))
    return rows


def _nfcorpus(data: Path) -> _Rows:
    readers = judged.readers(data)
    documents, queries, grades = readers.nfcorpus("train")
    tested = readers.nfcorpus("test")[1].values()
    return _Rows(mined(without(_positives("nfcorpus", documents, queries, grades), tested), documents.values()))


def _wikiqa(data: Path) -> _Rows:
    return _Rows(judged.rows_of(data, "en_wikiqa/train"), judged.rows_of(data, "en_wikiqa/dev"))


def _cepilepsyqa(data: Path) -> _Rows:
    tested = [row.query for row in judged.rows_of(data, "zh_cepilepsyqa/dev")]
    pairs = without(judged.cepilepsyqa_pairs(data), tested)
    return _Rows(mined(pairs, (text for row in pairs for text in row.docs)))


def _cmrc(data: Path) -> _Rows:
    documents, queries, grades = judged.readers(data).CORPUS["zh_cmrc2018/trial"]()
    return _Rows(mined(_positives("cmrc", documents, queries, grades), documents.values()))


def _cmedir(data: Path) -> _Rows:
    """Rows with a relevant and an irrelevant title; titles of grade 1 and above are relevant."""
    return _Rows([row for row in judged.cmedir(data)[0] if {grade > 0 for grade in row.labels or ()} == {True, False}])


FILES: dict[str, Callable[[Path], _Rows]] = {
    "nfcorpus": _nfcorpus,
    "wikiqa": _wikiqa,
    "cepilepsyqa": _cepilepsyqa,
    "cmrc": _cmrc,
    "cmedir": _cmedir,
}


def training_files(name: str, data: Path, folder: Path) -> TrainingFiles:
    """The files of a training set, written to ``folder`` if they are not there."""
    train, dev = folder / f"{name}.train.jsonl", folder / f"{name}.dev.jsonl"
    if not train.exists():
        rows = FILES[name](data)
        if rows.dev:
            judged.write(rows.dev, dev)
        part = judged.write(rows.train, train.with_suffix(".part"))
        part.replace(train)
    return TrainingFiles(train, dev if dev.exists() else None)


def taught(files: TrainingFiles, teacher: rerank_core.Reranker, name: str) -> TrainingFiles:
    """The same rows with a teacher's scores, written beside them once."""
    file = files.train.with_name(f"{files.train.name.removesuffix('.train.jsonl')}.{name}.jsonl")
    if not file.exists():
        part = judged.write(label(list(open_rows([files.train])), teacher), file.with_suffix(".part"))
        part.replace(file)
    return replace(files, train=file)
