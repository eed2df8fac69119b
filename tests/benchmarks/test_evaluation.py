"""The benchmark of `rerank eval`: the files of its sets, one run of the command, the tables."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripts import module_of
from rerank_eval.sets.read import read_sets

# Readers as those of the data folder, over small sets.
READERS = """
def rows():
    for query in range(6):
        docs = [(str(doc), f"text {doc} of thing {query}", int(doc == 0)) for doc in range(4)]
        yield str(query), f"what is thing {query}?", docs

def collection():
    docs = {f"p{number}": f"paragraph {number} about thing {number}" for number in range(5)}
    queries = {f"q{number}": f"thing {number}" for number in range(5)}
    return docs, queries, {f"q{number}": {f"p{number}": 1} for number in range(5)}

def trecdl(year):
    yield "7", "what is it?", [("d1", "one text", 0), ("d2", "another text", 2)]

RERANK = {"en_wikiqa/test": rows, "zh_cmedir/dev": rows, "zh_cmedir/test": rows, "zh_t2rank100": rows}
CORPUS = {"zh_xquad": collection, "en_scifact": collection}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with small sets."""
    folder = tmp_path / "data"
    (folder / "en_trecdl").mkdir(parents=True)
    (folder / "readers.py").write_text(READERS, encoding="utf-8")
    (folder / "en_trecdl" / "qrels.dl19-passage.txt").write_text("7 0 d2 2\n7 0 d1 0\n7 0 other 3\n", encoding="utf-8")
    return folder


def test_the_command_reads_the_files_of_each_set(
    data: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are shuffled, collections get BM25's candidates, and DL19 has the order of its run and all judgements."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    sets = module_of(root / "benchmarks" / "evaluated" / "sets.py")
    names = ["wikiqa", "cmedir", "xquad-zh", "scifact", "dl19"]
    found = {one.name: one for one in read_sets(sets.data_of(names, data, tmp_path / "sets"))}
    assert list(found) == names
    assert [len(found[name].queries) for name in ("wikiqa", "cmedir", "scifact", "dl19")] == [6, 6, 5, 1]
    first = [query.gains[0] for query in found["wikiqa"].queries]
    assert set(first) == {0.0, 1.0}
    assert found["xquad-zh"].first_stage is not None
    (query,) = found["dl19"].queries
    assert [(one.id, one.gain) for one in query.candidates] == [("d1", 0.0), ("d2", 2.0)]
    assert query.others == {"other": 3.0}


def test_one_run_and_its_tables(data: Path, root: Path, tmp_path: Path) -> None:
    """The figures of two sets, without the rankings, in the tables of the documentation."""
    results = tmp_path / "results.json"
    command = [sys.executable, str(root / "benchmarks" / "evaluation.py"), "--model", "mini", "--set", "wikiqa"]
    command += ["--set", "xquad-zh", "--queries", "3", "--cache", str(tmp_path / "cache"), "--results", str(results)]
    command += ["--html", str(tmp_path / "report.html")]
    subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "RERANK_DATA": str(data)}, timeout=300)
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert "per_query" not in results.read_text(encoding="utf-8")
    tables = module_of(root / "tools" / "tables" / "evaluation.py")
    quality = tables.quality(results).splitlines()
    assert quality[0] == "| nDCG@10 | mean | wikiqa | xquad-zh |"
    assert {line.split(" | ")[0] for line in quality[2:]} == {
        "| mini",
        "| oracle",
        "| random",
        "| BM25",
        "| first stage",
    }
    speed = tables.speed(results).splitlines()
    assert speed[0] == "| median / p95, ms | parameters | memory | wikiqa | xquad-zh |"
    assert speed[2].startswith("| mini | 23 M | ")
    assert tables.advice(results).startswith("> Use mini: nDCG@10 ")
    assert tables.facts(results).startswith("Queries × mean number of candidates: wikiqa 3 × 4, xquad-zh 3 × ")
