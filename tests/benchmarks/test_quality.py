"""The benchmark of quality: ties, the ideal list, shuffled candidates, repeated queries, intervals, the table."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

import rerank_core
from helpers.scripts import module_of

# Readers as those of the data folder, over small sets. The relevant document is listed first, as in several real files.
READERS = """
def rgb():
    for query in range(20):
        yield str(query), f"query {query}", [(str(doc), f"text {query} {doc}", int(doc == 0)) for doc in range(8)]

def cmedir(split):
    queries = {"dev": ["only dev", "in both"], "test": ["in both", "only test"]}[split]
    for number, query in enumerate(queries):
        yield str(number), query, [("0", "a title", 4), ("1", "another title", 1)]

def xquad(language):
    docs = {f"p{number}": f"{language} paragraph {number}" for number in range(5)}
    queries = {f"q{number}": f"{language} question {number}" for number in range(5)}
    return docs, queries, {f"q{number}": {f"p{number}": 1} for number in range(5)}

RERANK = {
    "zh_rgb/int": rgb,
    "zh_cmedir/dev": lambda: cmedir("dev"),
    "zh_cmedir/test": lambda: cmedir("test"),
}
CORPUS = {f"{language}_xquad": lambda language=language: xquad(language) for language in ("zh", "en")}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with small sets."""
    (tmp_path / "readers.py").write_text(READERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the benchmarks' parts, which can import each other."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return root / "benchmarks" / "parts"


def test_equal_scores_count_against_the_label(parts: Path) -> None:
    """A constant scorer gets the worst order, wherever the relevant document stands; eleven others push it out."""
    ndcg = module_of(parts / "quality" / "ndcg.py")
    judgements = [ndcg.Judgements([1, 0, 0]), ndcg.Judgements([0, 0, 1]), ndcg.Judgements([1, *[0] * 11])]
    values = ndcg.ndcg10([[0.5] * 3, [0.5] * 3, [0.5] * 12], judgements)

    assert values == pytest.approx([0.5, 0.5, 0.0])


def test_gain_is_linear_and_the_ideal_list_counts_what_is_no_candidate(parts: Path) -> None:
    """Grades 2 then 3 by hand; a judged document of grade 3 that was not retrieved lowers the figure."""
    ndcg = module_of(parts / "quality" / "ndcg.py")
    judgements = [ndcg.Judgements([3, 2]), ndcg.Judgements([3, 2], others=[3, 0]), ndcg.Judgements([0, 0])]
    values = ndcg.ndcg10([[0.1, 0.2], [0.1, 0.2], [0.1, 0.2]], judgements)

    third, second = 1 / math.log2(4), 1 / math.log2(3)
    got = 2 + 3 * second
    assert values == pytest.approx([got / (3 + 2 * second), got / (3 + 3 * second + 2 * third), 0.0])


def test_a_query_without_a_score_for_each_candidate_is_refused(parts: Path) -> None:
    ndcg = module_of(parts / "quality" / "ndcg.py")
    with pytest.raises(ValueError, match="longer"):
        ndcg.ndcg10([[0.1]], [ndcg.Judgements([1, 0])])


def test_candidates_are_shuffled_and_always_alike(parts: Path, folder: Path) -> None:
    """The relevant document, first in the file, is first in about an eighth of the rows; grades follow their texts."""
    sets = module_of(parts / "quality" / "sets.py").SETS
    first, second = (sets["zh_rgb/int"](folder) for _ in range(2))

    assert first.rows == second.rows
    assert sum(row.docs[0].endswith(" 0") for row in first.rows) < 8
    for row, judged in zip(first.rows, first.judgements, strict=True):
        assert [int(text.endswith(" 0")) for text in row.docs] == judged.candidates


def test_cmedir_is_without_the_queries_of_the_test_split(parts: Path, folder: Path) -> None:
    judged = module_of(parts / "quality" / "sets.py").SETS["zh_cmedir/dev"](folder)

    assert [row.query for row in judged.rows] == ["only dev"]
    assert sorted(judged.judgements[0].candidates) == [1, 4]


def test_questions_of_one_language_meet_the_paragraphs_of_another(parts: Path, folder: Path) -> None:
    """All questions have the same candidates, shuffled, and only their own paragraph is relevant."""
    judged = module_of(parts / "quality" / "sets.py").SETS["multi_xquad/en-zh"](folder)

    assert judged.shared
    assert len({row.docs for row in judged.rows}) == 1
    assert list(judged.rows[0].docs) != sorted(judged.rows[0].docs)
    for number, (row, grades) in enumerate(zip(judged.rows, judged.judgements, strict=True)):
        assert row.query == f"en question {number}"
        assert row.docs[grades.candidates.index(1)] == f"zh paragraph {number}"
        assert sum(grades.candidates) == 1


@pytest.mark.data
def test_published_orders_have_their_figures(root: Path, parts: Path, data: Path) -> None:
    """pyserini publishes 0.5058 for BM25 and 0.7308 for SPLADE++ on TREC DL 2019."""
    assert module_of(root / "benchmarks" / "quality.py").check_metric(data) == {"bm25": 0.5058, "splade_pp_ed": 0.7308}


def test_intervals_are_paired_with_the_reference(root: Path, parts: Path, tmp_path: Path) -> None:
    """Each query is 0.1 worse: the interval is a point, though the queries differ. The table shows it."""
    quality = module_of(root / "benchmarks" / "quality.py")
    reference = [0.2, 0.5, 0.9, 0.7]
    found = {"mini-multilingual": reference, "BM25": [value - 0.1 for value in reference]}
    entries = [{"set": "zh_rgb/int", "ranker": name, "ndcg": values} for name, values in found.items()]
    sets = quality.summary(entries)

    assert sets["zh_rgb/int"]["rankers"]["BM25"] == {"ndcg10": 0.475, "difference": [-0.1, -0.1, -0.1]}
    assert "difference" not in sets["zh_rgb/int"]["rankers"]["mini-multilingual"]
    file = tmp_path / "quality.json"
    file.write_text(json.dumps({"sets": sets}), encoding="utf-8")
    table = module_of(root / "tools" / "tables" / "quality.py").quality
    header, _, row = table(file).splitlines()
    assert header == "| set | queries | BM25 | mini-multilingual |"
    assert row == "| RGB zh_int | 4 | 0.475 [-0.100, -0.100] | 0.575 |"
    assert table(tmp_path / "none.json") == ""


def test_every_set_has_a_title(root: Path, parts: Path) -> None:
    titles = module_of(root / "tools" / "tables" / "quality.py").TITLES
    assert list(titles) == list(module_of(parts / "quality" / "sets.py").SETS)


def test_a_model_gives_all_scores_in_one_pass_and_with_an_index(parts: Path, folder: Path) -> None:
    """Each value of ``score`` has the nDCG of a call that asks for it alone; grades at random tell orders apart."""
    rankers, ndcg = module_of(parts / "quality" / "rankers.py"), module_of(parts / "quality" / "ndcg.py")
    judged = module_of(parts / "quality" / "sets.py").SETS["multi_xquad/en-zh"](folder)
    draw = random.Random(0)
    grades = [ndcg.Judgements([draw.randrange(100) for _ in row.docs]) for row in judged.rows]
    judged = replace(judged, judgements=grades)
    with rerank_core.load("mini", device="cpu") as mini:
        values = rankers.by_model(mini, judged)
        without_index = rankers.by_model(mini, replace(judged, shared=False))
        for score in ("maxsim", "cosine", "both"):
            alone = [mini.rerank(row.query, row.docs, score=score).scores() for row in judged.rows]
            assert ndcg.ndcg10(alone, grades) == pytest.approx(values[score])
            assert without_index[score] == pytest.approx(values[score])
    assert values["maxsim"] != values["cosine"] != values["both"] != values["maxsim"]


def test_an_interrupted_run_measures_only_what_is_missing(root: Path, parts: Path, folder: Path) -> None:
    """Random orders and BM25 have an entry each after the first run, and none more after the second."""
    quality = module_of(root / "benchmarks" / "quality.py")
    state = folder / "quality.jsonl"
    judged = quality.SETS["multi_xquad/zh-zh"](folder)
    for _ in range(2):
        quality.measure("multi_xquad/zh-zh", judged, {}, state)
        entries = [json.loads(line) for line in state.read_text(encoding="utf-8").splitlines()]
        assert [entry["ranker"] for entry in entries] == ["random", "BM25"]
    assert entries[1]["ndcg"] == [1.0] * 5  # the number of a paragraph is in its question
