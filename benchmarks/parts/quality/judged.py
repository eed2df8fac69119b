"""Real judged data as training rows and dev sets, read with ``readers.py`` of the data folder.

Candidates are shuffled with a fixed seed, because several files list relevant documents first.
"""

from __future__ import annotations

import importlib.util
import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.mining import BM25

__all__ = [
    "as_rows",
    "cepilepsyqa_pairs",
    "cmedir",
    "dl19",
    "readers",
    "rows_of",
    "sample_of",
    "t2rank_teacher",
    "write",
]

Candidates = Iterable[tuple[str, str, list[tuple[str, str, int]]]]


def readers(data: Path) -> Any:
    """The module ``readers.py`` of the data folder."""
    spec = importlib.util.spec_from_file_location("readers", data / "readers.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{data} has no readers.py; set RERANK_DATA to the folder with the judged data")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_rows(name: str, candidates: Candidates) -> Iterator[TrainingRow]:
    """Training rows of the readers' candidates, shuffled."""
    for query_id, query, documents in candidates:
        shuffled = list(documents)
        random.Random(f"{name} {query_id}").shuffle(shuffled)
        yield TrainingRow(
            query,
            tuple(text for _, text, _ in shuffled),
            tuple(float(grade) for *_, grade in shuffled),
            id=f"{name}:{query_id}",
        )


def rows_of(data: Path, name: str) -> list[TrainingRow]:
    """A candidate list of the data folder, like ``en_wikiqa/test``."""
    return list(as_rows(name, readers(data).RERANK[name]()))


def dl19(data: Path) -> list[TrainingRow]:
    """TREC DL 2019, BM25 top 100, with the NIST grades of these passages."""
    return list(as_rows("dl19", readers(data).trecdl(19)))


def sample_of(data: Path, name: str, queries: int = 40, depth: int = 25) -> list[TrainingRow]:
    """The first judged queries of ``nfcorpus`` or ``scifact`` with relevant and other documents among their BM25
    candidates (k1 0.9, b 0.4), and these candidates."""
    documents, texts, qrels = getattr(readers(data), name)()
    ids = list(documents)
    search = BM25([documents[one] for one in ids])
    candidates = []
    for query_id in sorted(one for one in qrels if one in texts):
        ranked = numpy.argsort(-search.scores(texts[query_id]), kind="stable")[:depth]
        listed = [(ids[index], documents[ids[index]], qrels[query_id].get(ids[index], 0)) for index in ranked]
        if len({grade > 0 for *_, grade in listed}) == 2:
            candidates.append((query_id, texts[query_id], listed))
        if len(candidates) == queries:
            break
    return list(as_rows(name, candidates))


def cepilepsyqa_pairs(data: Path) -> list[TrainingRow]:
    """Questions outside the dev split with their answers, without negatives. The data names no test split, so the test
    questions are among these; nothing is measured on them here."""
    import csv

    def table(file: str) -> list[dict[str, str]]:
        with (data / "zh_cepilepsyqa" / file).open(encoding="utf-8") as lines:
            return list(csv.DictReader(lines))

    judged = {row["question_id"] for row in table("dev_candidates.txt")}
    answers: dict[str, list[str]] = {}
    for row in table("answer.csv"):
        answers.setdefault(row["question_id"], []).append(row["content"])
    return [
        TrainingRow(row["content"], tuple(answers[key]), (1.0,) * len(answers[key]), id=f"cepilepsyqa:{key}")
        for row in table("question.csv")
        if (key := row["question_id"]) not in judged and key in answers
    ]


def cmedir(data: Path) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Titles graded 0 to 4: the dev split without the queries of the test split, to train on; and the test split."""
    test = rows_of(data, "zh_cmedir/test")
    seen = {row.query for row in test}
    return [row for row in rows_of(data, "zh_cmedir/dev") if row.query not in seen], test


def t2rank_teacher(data: Path) -> list[TrainingRow]:
    """T2Rank100 with its labels and the teacher's scores, of the queries with a score for every document."""
    scores: dict[tuple[str, str], float] = {}
    for line in (data / "zh_t2rank100" / "t2rank_100.distill.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        scores[entry["query"], entry["content"]] = float(entry["score"])
    rows = []
    for row in rows_of(data, "zh_t2rank100"):
        teacher = tuple(scores.get((row.query, text), -1.0) for text in row.docs)
        if min(teacher) >= 0:
            rows.append(TrainingRow(row.query, row.docs, row.labels, teacher, id=row.id))
    return rows


def write(rows: Iterable[TrainingRow], path: Path) -> Path:
    """Write rows as JSONL for `rerank train`, and return the path."""
    from rerank_trainers.data.row_writer import row_to_json

    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row_to_json(row), ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path
