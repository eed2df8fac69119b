"""``--suite``: data of published tasks from a folder, as mteb evaluates it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from rerank_core import InputError
from rerank_core.cli import app
from rerank_eval.mteb import installed
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet
from rerank_eval.suites.folder import read_task
from rerank_eval.suites.hub import set_of_split
from rerank_eval.suites.tasks import METRICS, SUITES, difference, tasks_of

T2, MMARCO, CMEDQA, _ = SUITES["cmteb-reranking"]
ROWS: list[dict[str, Any]] = [
    {"query": "熊猫吃什么", "positive": ["熊猫吃竹子", " 竹子\n"], "negative": ["熊吃鱼", "红色的车", "熊吃鱼"]},
    {"query": "no negative", "positive": ["a"], "negative": []},
    {"query": "what is word1", "positive": ["word1 is a word"], "negative": ["word2", "what is word1"]},
    {"query": "what is word1", "positive": ["word1"], "negative": ["word3"]},
]
TEXTS = [
    {"熊猫吃竹子": 1.0, "竹子": 1.0, "熊吃鱼": 0.0, "红色的车": 0.0},
    {"word1 is a word": 1.0, "word2": 0.0, "what is word1": 0.0},
    {"word1": 1.0, "word3": 0.0},
]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_collection(folder: Path, judged: JudgedSet, split: str) -> None:
    """A set in the form of mteb's data sets, with documents of another split beside it."""
    documents = [
        {"_id": one.id, "title": "", "text": f" {one.text}"} for query in judged.queries for one in query.candidates
    ]
    write_parquet(folder / "corpus" / f"{split}-00000-of-00002.parquet", documents[:4])
    write_parquet(folder / "corpus" / f"{split}-00001-of-00002.parquet", documents[4:])
    write_parquet(folder / "corpus" / "train-00000-of-00001.parquet", [{"_id": "other", "title": "", "text": "x"}])
    write_parquet(
        folder / "queries" / f"{split}.parquet", [{"_id": one.id, "text": one.text} for one in judged.queries]
    )
    ranked = [{"query-id": one.id, "corpus-ids": [doc.id for doc in one.candidates]} for one in judged.queries]
    write_parquet(folder / "top_ranked" / f"{split}.parquet", ranked)
    qrels = [
        {"query-id": one.id, "corpus-id": doc.id, "score": int(doc.gain or 0)}
        for one in judged.queries
        for doc in one.candidates
    ]
    write_parquet(folder / "qrels" / f"{split}.parquet", qrels)


def by_id(judged: JudgedSet) -> list[JudgedQuery]:
    """The queries with their candidates by id, since their order is drawn."""
    return [
        replace(query, candidates=tuple(sorted(query.candidates, key=lambda one: one.id))) for query in judged.queries
    ]


def test_rows_are_what_mteb_evaluates(tmp_path: Path) -> None:
    """Queries without a negative are left out, and nothing else: not a text that comes twice, not the query's own text,
    not a query that comes twice. Documents are stripped."""
    write_jsonl(tmp_path / "t2reranking.jsonl", ROWS)

    judged = read_task(tmp_path, T2)

    assert judged.name == "T2Reranking"
    assert [query.id for query in judged.queries] == ["dev_query0", "dev_query1", "dev_query2"]
    assert [query.text for query in judged.queries] == ["熊猫吃什么", "what is word1", "what is word1"]
    assert [{one.text: one.gain for one in query.candidates} for query in judged.queries] == TEXTS
    assert [len(query.candidates) for query in judged.queries] == [5, 3, 2]
    assert judged.facts.notes() == [
        "1 of 4 queries left out: no negative",
        "1 candidates kept with the text of another candidate",
    ]


def test_every_form_of_a_download_is_the_same_set(tmp_path: Path) -> None:
    """One file, a folder of files of splits, and mteb's corpus, queries, qrels and top_ranked."""
    write_jsonl(tmp_path / "rows" / "T2Reranking.jsonl", ROWS)
    expected = read_task(tmp_path / "rows", T2, seed=3)
    folder = tmp_path / "hub" / "T2Reranking" / "data"
    write_parquet(folder / "dev-00000-of-00002.parquet", ROWS[:2])
    write_parquet(folder / "dev-00001-of-00002.parquet", ROWS[2:])
    write_parquet(folder / "train-00000-of-00001.parquet", ROWS[:1])
    write_jsonl(tmp_path / "hub" / "README.jsonl", [])
    write_collection(tmp_path / "mteb" / "T2Reranking", expected, "dev")

    assert read_task(tmp_path / "hub", T2, seed=3) == expected
    mteb = read_task(tmp_path / "mteb", T2, seed=3)
    assert by_id(mteb) == by_id(expected)


def test_a_split_of_mteb_is_the_same_set(tmp_path: Path) -> None:
    """As it is downloaded from the hub: rows of ids and texts, judgements and candidates by id."""
    write_jsonl(tmp_path / "T2Reranking.jsonl", ROWS)
    expected = read_task(tmp_path, T2)
    documents = {one.id: one for query in expected.queries for one in query.candidates}
    split = {
        "corpus": [{"id": key, "text": f"{one.text} ", "title": ""} for key, one in documents.items()],
        "queries": [{"id": query.id, "text": query.text} for query in expected.queries],
        "relevant_docs": {
            query.id: {one.id: int(one.gain or 0) for one in query.candidates} for query in expected.queries
        },
        "top_ranked": {query.id: [one.id for one in query.candidates] for query in expected.queries},
    }
    assert by_id(set_of_split("T2Reranking", split)) == by_id(expected)


def test_data_is_found_by_the_names_of_its_data_set(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "Mmarco-reranking" / "dev.jsonl", ROWS)
    write_jsonl(tmp_path / "CMedQAv1" / "only.jsonl", ROWS)

    assert len(read_task(tmp_path, MMARCO).queries) == 3
    assert read_task(tmp_path, CMEDQA).queries[0].id == "test_query0"


def test_a_sample_is_drawn_and_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "T2Reranking.jsonl", ROWS)
    judged = read_task(tmp_path, T2, sample=2)
    assert len(judged.queries) == 2
    assert "1 of 4 queries left out: not drawn" in judged.facts.notes()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "has no data of T2Reranking; it needs T2Reranking.jsonl"),
        ({"T2Reranking.jsonl": ROWS, "t2-reranking/dev.jsonl": ROWS}, "has the data of T2Reranking twice"),
        ({"T2Reranking/train.jsonl": ROWS, "T2Reranking/test.jsonl": ROWS}, "no file of the split 'dev'"),
        ({"T2Reranking/corpus/dev.jsonl": [{"_id": "a", "text": "x"}]}, "no file of the split 'dev'|both qrels"),
        ({"T2Reranking.jsonl": [{"query": "a", "positive": 3, "negative": []}]}, "T2Reranking.jsonl:1: "),
        ({"T2Reranking.jsonl": [{"query": "a", "positive": [3], "negative": []}]}, "lists of texts"),
        ({"T2Reranking.jsonl": [{"query": "a", "docs": ["b"]}]}, "T2Reranking.jsonl:1: its documents have no labels"),
        ({"T2Reranking.jsonl": ROWS[1:2]}, "T2Reranking has no query with a relevant and an irrelevant candidate"),
    ],
)
def test_faults_of_a_folder(files: dict[str, list[dict[str, Any]]], words: str, tmp_path: Path) -> None:
    for name, rows in files.items():
        write_jsonl(tmp_path / name, rows)
    with pytest.raises(InputError, match=words):
        read_task(tmp_path, T2)


def test_published_numbers() -> None:
    """A set is compared with the published data by its numbers."""
    assert [task.name for task in tasks_of(["cmteb-reranking", "t2reranking"])] == [
        "T2Reranking",
        "MMarcoReranking",
        "CMedQAv1-reranking",
        "CMedQAv2-reranking",
    ]
    with pytest.raises(InputError, match=r"there is no suite 'T2Rerank'; did you mean T2Reranking\?"):
        tasks_of(["T2Rerank"])
    judged = JudgedSet("x", ())
    other = "0 queries instead of 5,908, 0 candidates instead of 97,422, 0 relevant documents instead of 44,444"
    assert difference(T2, judged) == other
    assert difference(replace(T2, queries=0, candidates=0, relevant=0), judged) is None


def evaluate(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["eval", *arguments], prog_name="rerank", catch_exceptions=False)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def downloads(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data of all four tasks, in a temporary working directory with the models for tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for task in SUITES["cmteb-reranking"]:
        write_jsonl(tmp_path / "downloads" / f"{task.name}.jsonl", ROWS)
    return Path("downloads")


def test_the_command(downloads: Path) -> None:
    """The tables of the tasks, and one for each of C-MTEB's two metrics: tasks in columns, in percent, and the mean."""
    result = evaluate("-m", "toy-words", "-m", "toy-lists", "--suite", "cmteb-reranking", "--suite-data", "downloads")

    assert result.exit_code == 0
    assert "warning: T2Reranking is not the published data: 3 queries instead of 5,908" in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    names = [task.name for task in SUITES["cmteb-reranking"]]
    for metric in METRICS[:2]:
        start = lines.index([metric, *names, "mean"])
        rows = {line[0]: [float(value) for value in line[1:]] for line in lines[start + 1 : start + 3]}
        assert set(rows) == {"toy-words", "toy-lists"}
        assert all(value == pytest.approx(own[0]) for own in rows.values() for value in own)
    assert any(line[:2] == ["T2Reranking", "map_at_1000"] for line in lines)


def test_a_single_task_beside_other_data(downloads: Path) -> None:
    result = evaluate(
        "-m", "toy-words", "--suite", "T2Reranking", "--suite-data", "downloads", "--metric", "AP", "--json",
        "-d", "own=downloads/T2Reranking.jsonl",
    )  # fmt: skip
    evaluation = json.loads(result.stdout)
    assert [one["name"] for one in evaluation["sets"]] == ["own", "T2Reranking"]
    assert evaluation["metrics"] == ["AP"]


def test_wrong_usage(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installed, "version", version)
    suite = ("-m", "toy-words", "--suite", "T2Reranking")
    data = ("--suite-data", "downloads")
    calls = {
        ("-m", "toy-words", "--suite", "beir"): "there is no suite 'beir'",
        ("-m", "toy-words", "-d", "x", *data): "--suite-data is 'downloads', and there is no suite",
        (*suite, "--suite-data", "nowhere"): "'nowhere' is no folder",
        (*suite, "--mteb-results", "out", "--queries", "5"): "--queries draws a part",
        suite: "mteb is not installed: pip install 'rerank-eval[mteb]'",
        (*suite, *data, "--mteb-results", "out"): "mteb is not installed",
    }
    for arguments, words in calls.items():
        result = evaluate(*arguments)
        assert result.exit_code == 1
        assert words in result.stderr
    nothing = evaluate("-m", "toy-words")
    assert nothing.exit_code == 2
    assert "none is given; name judged queries" in nothing.stderr
    assert not Path("out").exists()
