"""The timings of training embedding and late-interaction models: the rows of a step, and the tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import ModuleType

import pytest

from helpers.scripts import module_of


@pytest.fixture
def script(root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return module_of(root / "benchmarks" / "vector_speed.py")


@pytest.fixture
def tables(root: Path) -> ModuleType:
    return module_of(root / "tools" / "tables" / "vectors" / "speed.py")


def test_no_text_occurs_twice(script: ModuleType, tmp_path: Path) -> None:
    """The relevant sentence comes first; a question without two new sentences is left out."""
    lines = ["QuestionID\tQuestion\tSentence\tLabel"]
    lines += [f"1\tfirst\t{text}\t{label}" for text, label in (("wrong", 0), ("right", 1), ("other", 0))]
    lines += [f"2\tsecond\t{text}\t0" for text in ("wrong", "right", "alone")]
    lines += [f"3\tthird\t{text}\t0" for text in ("wrong", "new", "newer")]
    (tmp_path / "en_wikiqa").mkdir()
    with gzip.open(tmp_path / "en_wikiqa" / "WikiQA-train.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")

    assert script.groups_of(tmp_path, 2) == [("first", ["right", "wrong"]), ("third", ["new", "newer"])]
    with pytest.raises(ValueError, match="gives 2 groups, and 3 are needed"):
        script.groups_of(tmp_path, 3)


def test_tables_have_ratios_refusals_and_gaps(tables: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    assert tables.speed(file).count(tables.NOT_RUN) == 10

    engines = {
        "ours": {"tokens_per_second": 2100, "ratio": 1.0},
        "sentence-transformers": {"tokens_per_second": 1000, "ratio": 2.104},
        "sentence-transformers-cached": {"error": "its first losses are [1.0]"},
    }
    rows = [
        {
            "kind": "embedding",
            "queries": queries,
            "allocator": "default",
            "tokens": 9000,
            "vector_bytes": 2**20,
            "peak": peak * 2**20,
        }
        for queries, peak in ((32, 1000), (1024, 1090))
    ]
    cells = [{"shape": "embedding-6x384", "workload": "wikiqa", "engines": engines}]
    file.write_text(json.dumps({"cells": cells, "memory": rows}), encoding="utf-8")
    _, _, plain, cached, *colbert = tables.speed(file).splitlines()

    assert ("2,100" in plain, plain.endswith("| 2.10 |")) == (True, True)
    assert "its first losses are" in cached
    assert [line.count(tables.NOT_RUN) for line in colbert] == [2, 2, 2]
    assert "| embedding | 1,024 | 9,000 | 1.0 | 1,090 | 1.09 | not run yet | not run yet |" in tables.memory(file)
