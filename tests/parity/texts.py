"""What both sides are asked to score: real texts, short and long, and the odd ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.plain import CHINESE, EMOJI, ODD, PARAGRAPH, SHORT

__all__ = ["LONG_QUERY", "ODD_CASE", "Case", "cases"]


@dataclass(frozen=True)
class Case:
    name: str
    query: str
    docs: list[str]


# The originals lose empty documents, so none stands here.
ODD_CASE = Case("odd", "what is a panda? 大熊猫吃什么？", [*SHORT, *CHINESE, *EMOJI, *ODD, PARAGRAPH * 60])
LONG_QUERY = Case("long query", PARAGRAPH * 20, ["a bear", PARAGRAPH, PARAGRAPH * 45])

_SPREAD = 12


def _some(docs: list[str]) -> list[str]:
    """The longest, the shortest and a few between, in the file's order; none that the originals would drop."""
    docs = [doc for doc in docs if doc.strip()]
    by_length = sorted(range(len(docs)), key=lambda place: len(docs[place]))
    step = max(1, len(docs) // _SPREAD)
    return [docs[place] for place in sorted({*by_length[::step], by_length[-1]})]


def cases(data: Path | None) -> Iterator[Case]:
    """Odd texts always; two queries each of T2Rank100, DuReader's pages, DL19 and cEpilepsyQA dev where the data is."""
    yield ODD_CASE
    yield LONG_QUERY
    if data is None:
        return
    lines = (data / "zh_t2rank100" / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines()
    for number in (0, 41):
        entry = json.loads(lines[number])
        yield Case(f"t2rank100 {number}", entry["query"], _some([*entry["pos"], *entry["neg"]]))
    lines = (data / "zh_dureader_demo" / "search.dev.json").read_text(encoding="utf-8").splitlines()
    for number in (0, 7):
        entry = json.loads(lines[number])
        pages = [" ".join([page["title"], *page["paragraphs"]]) for page in entry["documents"]]
        yield Case(f"dureader {number}", entry["question"], _some(pages))
    entries = json.loads(
        (data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json").read_text(encoding="utf-8")
    )
    for number in (0, 20):
        yield Case(f"dl19 {number}", entries[number]["query"], _some([h["content"] for h in entries[number]["hits"]]))
    folder = data / "zh_cepilepsyqa"
    questions = _column(folder / "question.csv", "question_id")
    answers = _column(folder / "answer.csv", "ans_id")
    candidates: dict[str, list[str]] = {}
    with (folder / "dev_candidates.txt").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            candidates.setdefault(row["question_id"], []).append(row["ans_id"])
    for number in (0, 100):
        asked = list(candidates)[number]
        yield Case(f"cepilepsyqa {number}", questions[asked], _some([answers[a] for a in candidates[asked]]))


def _column(file: Path, key: str) -> dict[str, str]:
    with file.open(encoding="utf-8") as lines:
        return {row[key]: row["content"] for row in csv.DictReader(lines)}
