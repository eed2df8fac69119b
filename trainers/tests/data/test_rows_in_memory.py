"""`read_rows` of the core reads the rows that `open_rows` reads for training."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from rerank_core.records import RowError, TrainingRow, read_rows
from rerank_trainers.data.row_store import open_rows

LINES: list[dict[str, Any]] = [
    {"query": "a", "document": "one", "label": 1},
    {"query": "b", "pos": ["x"], "neg": ["y", "z"], "pos_scores": [2.0], "neg_scores": [1.0, 0.5]},
    {"query": "a", "document": "two", "label": 0},
    {"query": "c", "docs": ["p", "q"], "labels": [3, 0], "id": "mine", "source": "other"},
    {"query": "a", "document": "three", "score": 0.5},
    {"query": "熊猫", "positive": ["竹子"], "negative": ["自行车"]},
    {"query": "a", "document": "four", "label": 2, "instruction": "find"},
]


def _plain(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(["", *(json.dumps(line) for line in LINES)]), encoding="utf-8")
    return path


def _packed(folder: Path) -> Path:
    path = folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(_plain(folder).read_bytes()))
    return path


def _array(folder: Path) -> Path:
    path = folder / "rows.json"
    path.write_text(json.dumps(LINES, indent=1), encoding="utf-16")
    return path


def _table(folder: Path) -> Path:
    path = folder / "rows.csv"
    path.write_text('query,document,label\nq,"a, b",1\nr,c,0\nq,"d\ne",0\n', encoding="utf-8")
    return path


def _tabs(folder: Path) -> Path:
    path = folder / "rows.tsv"
    path.write_text("query\tdocument\tlabel\nq\ta\t1\nr\tc\t0\nq\td\t0\n", encoding="utf-8")
    return path


def _parquet(folder: Path) -> Path:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = folder / "rows.parquet"
    columns = {"query": ["q", "r", "q"], "document": ["a", "b", "c"], "label": [1, 0, 2]}
    parquet.write_table(arrow.table(columns), path)
    return path


@pytest.mark.parametrize("write", [_plain, _packed, _array, _table, _tabs, _parquet])
@pytest.mark.parametrize("scores_are", ["teacher", "labels"])
def test_rows_are_those_of_training(tmp_path: Path, write: Any, scores_are: Any) -> None:
    path = write(tmp_path)
    found = read_rows([path], scores_are=scores_are)

    assert found == list(open_rows([path], scores_are=scores_are))
    assert any(len(row.docs) > 1 for row in found)


def test_several_files_keep_their_own_rows(tmp_path: Path) -> None:
    files = [_plain(tmp_path), _tabs(tmp_path)]
    assert read_rows(files) == list(open_rows(files))
    assert read_rows([str(tmp_path / "*.tsv")])[0] == TrainingRow(
        "q", ("a", "d"), (1.0, 0.0), source="rows.tsv", id="rows.tsv:2"
    )


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (b'{"query": "q"', "broken-json"),
        (b'{"query": "\xff", "docs": ["a"]}', "not-utf-8"),
        (b'{"a": 1}', "unknown-format"),
    ],
)
def test_a_bad_line_is_reported_as_in_training(tmp_path: Path, bad: bytes, kind: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"query": "q", "docs": ["a"]}\n\n' + bad + b"\n")
    for read in (read_rows, lambda paths: list(open_rows(paths))):
        with pytest.raises(RowError) as caught:
            read([path])
        assert (caught.value.kind, caught.value.file, caught.value.line) == (kind, "rows.jsonl", 3)
        assert str(caught.value).startswith("rows.jsonl:3: ")
