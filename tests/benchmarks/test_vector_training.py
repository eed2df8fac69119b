"""The benchmark of embedding and late-interaction models: what is measured, what is trained on, what the tables say."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest

from helpers.scripts import module_of
from rerank_core.records.training_row import TrainingRow

DOCUMENTS = {"a": "pandas eat bamboo", "b": "pandas eat bamboo shoots", "c": "it rains", "d": "bamboo grows"}
QUERIES = {"1": "what do pandas eat", "2": "unjudged", "3": "bamboo"}
GRADES = {"1": {"a": 2, "c": 0}, "3": {"d": 1, "b": 1}}


@pytest.fixture
def parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield Parts()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("vectors", "parts")]:
        del sys.modules[name]


class Parts:
    """Modules of benchmarks/vectors by name."""

    def __call__(self, name: str) -> Any:
        return import_module(f"vectors.{name}")


def test_a_collection_is_searched_and_reranked(parts: Parts) -> None:
    """Queries without a relevant document are left out; candidates are BM25's, shuffled, with their own grades."""
    judged = parts("judged_sets").of_collection("test", DOCUMENTS, QUERIES, GRADES, rerank=True)

    assert dict(judged.searches) == {
        "what do pandas eat": {0: 2.0},
        "bamboo": {1: 1, 3: 1},
    }
    rows = {row.query: dict(zip(row.docs, row.labels, strict=True)) for row in judged.rows}
    assert rows["what do pandas eat"] == {"pandas eat bamboo": 2, "pandas eat bamboo shoots": 0}
    assert judged.first(1).rows == judged.rows[:1]


def test_equal_scores_are_in_the_worst_order(parts: Parts) -> None:
    measuring = parts("measuring")
    assert measuring.worst_order(numpy.array([1.0, 1.0, 2.0, 1.0]), {0: 1.0, 3: 2.0}) == [2, 1, 0, 3]
    assert measuring.worst_order(numpy.zeros(4), {0: 1.0}, depth=2) == [1, 2]


def test_a_search_finds_over_the_whole_pool(parts: Parts) -> None:
    """The relevant text, second of four, has a reciprocal rank of one half; candidates are measured beside it."""
    judged_sets, measuring = parts("judged_sets"), parts("measuring")
    row = TrainingRow("q", ("t2", "t1"), (0.0, 1.0), id="1")
    judged = judged_sets.JudgedSet(("t1", "t2", "t3", "t4"), (row,), (("q", {0: 1.0}),))
    candidates, search = measuring._measured(judged, lambda query: numpy.array([0.5, 0.1, 0.9, 0.0]))

    assert (candidates.how, candidates.ndcg) == ("candidates", [1.0])
    assert search.means["RR@10"] == 0.5
    assert search.means["R@100"] == 1.0


def test_cut_vectors_have_length_one(parts: Parts) -> None:
    vectors = numpy.array([[3.0, 4.0, 12.0], [0.0, 0.0, 1.0]])
    assert parts("measuring").cut(vectors, 2).tolist() == [[0.6, 0.8], [0.0, 0.0]]
    assert parts("measuring").cut(vectors, None) is vectors


def test_negatives_are_mined_and_never_relevant(parts: Parts) -> None:
    """One relevant document of the best grade, and none of the query's other relevant ones."""
    files = parts("training_files")
    texts = [f"bamboo number {number}" for number in range(30)]
    rows = [TrainingRow("bamboo", tuple(texts[:12]), (*[1.0] * 11, 2.0), id="1")]
    [row] = files.mined(rows, texts)

    assert (row.docs[0], row.labels) == (texts[11], (1.0, *[0.0] * 7))
    assert not set(row.docs[1:]) & set(texts[:12])


def test_queries_of_a_test_set_are_left_out(parts: Parts) -> None:
    rows = [TrainingRow(query, ("d",), (1.0,)) for query in ("in both", "only here")]
    assert [row.query for row in parts("training_files").without(rows, ["in both", "only there"])] == ["only here"]


def test_each_task_is_measured_once(parts: Parts, tmp_path: Path) -> None:
    """The untouched model is measured wherever a run is, and a row takes a measurement off the list."""
    tasks, results = parts("tasks"), parts("results")
    every = list(tasks.tasks())
    wanted = [key for task in every for key in task.wanted()]
    assert len({task.name for task in every}) == len(every)
    assert len(set(wanted)) == len(wanted)

    for task in every:
        if task.run is not None and task.run.kind != "cross-encoder" and task.seed is not None:
            untouched = {(f"untouched {task.run.start}", key.set, key.width) for key in task.wanted()}
            assert untouched <= {(key.run, key.set, key.width) for key in wanted}

    file = tmp_path / "results.jsonl"
    bench = tasks.Bench(tmp_path, tmp_path, results.Results(file))
    first = every[-1].wanted()[0]
    results.Results(file).add(results.measurement(first, "candidates", {"nDCG@10": 0.51239}, [0.51239, 1.0]))
    again = tasks.Bench(tmp_path, tmp_path, results.Results(file))
    assert len(again.pending(every[-1])) == len(bench.pending(every[-1])) - 1
    assert json.loads(file.read_text(encoding="utf-8"))["ndcg"] == [5124, 10000]


def test_every_run_has_a_valid_configuration(parts: Parts, tmp_path: Path) -> None:
    """Settings are read as those of a file: an unknown one is an error."""
    catalogue, training, files = parts("catalogue"), parts("training"), parts("training_files")
    for run in catalogue.RUNS.values():
        config = training.config_of(run, 7, files.TrainingFiles(tmp_path / "t.jsonl"), tmp_path / "out")
        assert config.train.seed == 7
        assert config.model.kind == run.kind
        assert run.data in files.FILES
        assert set(run.sets) <= set(parts("judged_sets").SETS)


@pytest.fixture
def tables(root: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "tools"))
    return module_of(root / "tools" / "tables" / "vectors" / "quality.py")


def row(run: str, ndcg: list[int], **more: Any) -> str:
    means = {"nDCG@10": sum(ndcg) / len(ndcg) / 10_000}
    common = {"run": run, "set": "wikiqa", "seed": None, "share": None, "width": None, "how": "candidates"}
    return json.dumps({**common, **more, "means": means, "ndcg": ndcg}) + "\n"


def cells(text: str, name: str) -> list[str]:
    """The cells of the first row of a table that has a cell with this text."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return next(line for line in lines if name in line)


def test_tables_have_seeds_intervals_and_gaps(tables: ModuleType, tmp_path: Path) -> None:
    """Means over seeds, paired differences from the untouched model, and plain words where there is no result."""
    file = tmp_path / "results.jsonl"
    lines = [
        row("untouched mini colbert", [4000, 6000]),
        row("wikiqa colbert", [5000, 7000], seed=1, share=0.0),
        row("wikiqa colbert", [7000, 9000], seed=2, share=0.0),
        json.dumps({"run": "wikiqa colbert", "seed": 1, "seconds": 60}) + "\n",
    ]
    file.write_text("".join(lines), encoding="utf-8")
    gap = tables.NOT_RUN
    text = tables.trained(["wikiqa colbert"], file)

    assert cells(text, "wikiqa")[2:] == [gap, "0.500", "0.700 ± 0.141", gap, "+0.200 [+0.200, +0.200]", gap]
    assert cells(text, "dl19")[2:] == [gap] * 6
    assert cells(tables.curve(["wikiqa colbert"], file), "wikiqa")[2:] == ["0.600", "0.500"]


def test_runs_without_results_are_named_below_the_table(tables: ModuleType, tmp_path: Path) -> None:
    """And have no rows of gaps."""
    file = tmp_path / "results.jsonl"
    file.write_text(row("wikiqa colbert", [5000, 7000], seed=1, share=0.0), encoding="utf-8")
    names = ["wikiqa colbert", "wikiqa embedding", "nfcorpus embedding"]

    for text in (tables.trained(names, file), tables.curve(names, file)):
        assert text.endswith("\n\nNot run yet: wikiqa embedding; nfcorpus embedding.")
        assert "| wikiqa embedding" not in text


def test_distillation_is_compared_with_labels_alone(tables: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    other = "wikiqa embedding, kl from mini"
    lines = [row("wikiqa embedding", [5000, 6000], seed=1, share=0.0), row(other, [4000, 5000], seed=1, share=0.0)]
    file.write_text("".join(lines), encoding="utf-8")
    text = tables.compared("wikiqa embedding", [other], file)

    assert cells(text, other)[2:] == ["0.450", "-0.100 [-0.100, -0.100]"]
    assert tables.NOT_RUN in tables.matryoshka(tmp_path / "none.jsonl")
