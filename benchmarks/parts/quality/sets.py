"""The judged sets of benchmarks/quality.py: queries, candidates in a shuffled order, grades."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from parts.quality import judged
from parts.quality.dl19 import judged_queries
from parts.quality.ndcg import Judgements
from rerank_core.records.training_row import TrainingRow

__all__ = ["SETS", "JudgedSet", "cross_lingual"]


@dataclass(frozen=True)
class JudgedSet:
    """Queries with graded candidates.

    Attributes:
        rows: the queries and their candidates.
        judgements: the grades of each row.
        shared: every row has the same candidates, so that an index of them serves all queries.
    """

    rows: Sequence[TrainingRow]
    judgements: Sequence[Judgements]
    shared: bool = False


def _of(rows: Sequence[TrainingRow]) -> JudgedSet:
    return JudgedSet(rows, [Judgements([int(label) for label in row.labels or ()]) for row in rows])


def _dl19(data: Path) -> JudgedSet:
    """The ideal list is over all judged passages, as in published figures."""
    others = {f"dl19:{one.id}": one.others for one in judged_queries(data)}
    plain = _of(judged.dl19(data))
    judgements = [
        Judgements(one.candidates, others[str(row.id)]) for row, one in zip(plain.rows, plain.judgements, strict=True)
    ]
    return JudgedSet(plain.rows, judgements)


def cross_lingual(data: Path, queries: str, documents: str) -> JudgedSet:
    """XQuAD: the questions in one language, and the 240 paragraphs of all of them in another as their candidates."""
    corpus = judged.readers(data).CORPUS
    questions = corpus[f"{queries}_xquad"]()[1]
    paragraphs, _, relevant = corpus[f"{documents}_xquad"]()
    ids = list(paragraphs)
    random.Random("xquad").shuffle(ids)
    pool = tuple(paragraphs[one] for one in ids)
    rows = [
        TrainingRow(text, pool, tuple(float(relevant[key].get(one, 0)) for one in ids), id=f"xquad:{key}")
        for key, text in questions.items()
    ]
    return JudgedSet(rows, _of(rows).judgements, shared=True)


# In the order of the table. The dev split of cMedIR is taken without the queries that the test split has too.
SETS: dict[str, Callable[[Path], JudgedSet]] = {
    "zh_t2rank100": lambda data: _of(judged.rows_of(data, "zh_t2rank100")),
    "zh_cmedir/dev": lambda data: _of(judged.cmedir(data)[0]),
    "zh_rgb/int": lambda data: _of(judged.rows_of(data, "zh_rgb/int")),
    "zh_dureader_demo/dev": lambda data: _of(judged.rows_of(data, "zh_dureader_demo/dev")),
    "multi_xquad/zh-zh": lambda data: cross_lingual(data, "zh", "zh"),
    "multi_xquad/en-zh": lambda data: cross_lingual(data, "en", "zh"),
    "multi_xquad/zh-en": lambda data: cross_lingual(data, "zh", "en"),
    "en_trecdl19/bm25": _dl19,
    "en_wikiqa/test": lambda data: _of(judged.rows_of(data, "en_wikiqa/test")),
    "en_nfcorpus/sample": lambda data: _of(judged.sample_of(data, "nfcorpus")),
    "en_scifact/sample": lambda data: _of(judged.sample_of(data, "scifact")),
}
