"""Canonical rows on disk: complete under their own name, or to be gone on with."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.row_store import open_rows
from rerank_trainers.data.row_writer import RowWriter

ROWS = [
    TrainingRow("q", ("a", "b\u2028c"), (1.0, 0.5), (0.25, -1e-9), "Find", "somewhere", "one"),
    TrainingRow("熊猫\n吃什么？", ("竹子 \ud800",), (2.0,), source="zh", id="two"),
    TrainingRow("prompted", ("d", "e"), (1.0, 0.0), source="x", id="three", prompts=("passage: ", "")),
    TrainingRow("bare", ("d",), source="out.jsonl", id="out.jsonl:4"),
]
SETTINGS = {"model": "mini", "options": {"api": "a-secret-of-mine"}}


class Interruption(KeyboardInterrupt):
    """Ctrl-C, at a place of our choice."""


def write(out: Path, rows: list[TrainingRow], stop: int | None = None, **options: Any) -> RowWriter:
    """Write what is missing of ``rows``; before row ``stop`` comes the interruption."""
    writer = RowWriter(out, **{"settings": SETTINGS, "rows": rows, **options})
    with writer:
        for place in range(writer.done, len(rows)):
            if place == stop:
                raise Interruption
            writer.write(rows[place])
    return writer


def interrupted(out: Path, after: int) -> None:
    with pytest.raises(Interruption):
        write(out, ROWS, stop=after)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Rows come back equal, line separators and lone surrogates included, and nothing is left beside the file."""
    out = tmp_path / "new" / "out.jsonl"
    write(out, ROWS)
    assert list(open_rows([out])) == ROWS
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]
    assert json.loads(out.read_bytes().split(b"\n")[0])["labels"] == [1, 0.5]


@pytest.mark.parametrize("after", [1, 2])
def test_resuming_gives_the_uninterrupted_file(tmp_path: Path, after: int) -> None:
    """The file has its name only when it is complete, and is then what one run would have written."""
    write(tmp_path / "whole.jsonl", ROWS)
    out = tmp_path / "out.jsonl"
    interrupted(out, after)
    assert not out.exists()
    with pytest.raises(InputError, match="from an interrupted run"):
        write(out, ROWS)
    writer = write(out, ROWS, resume=True)
    assert (writer.done, writer.written) == (after, len(ROWS))
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "whole.jsonl"]


def test_half_a_line_is_written_again(tmp_path: Path) -> None:
    """What a killed machine left of a line is removed before the run goes on."""
    out = tmp_path / "out.jsonl"
    interrupted(out, 2)
    partial = tmp_path / "out.jsonl.partial"
    partial.write_bytes(partial.read_bytes()[:-5])
    assert write(out, ROWS, resume=True).done == 1
    assert list(open_rows([out])) == ROWS


def test_resuming_with_something_else_is_refused(tmp_path: Path) -> None:
    """Other settings, other rows, fewer rows or a lost record of the settings are errors that say which."""
    out = tmp_path / "out.jsonl"
    interrupted(out, 2)
    other = {**SETTINGS, "model": "maxi", "depth": 3}
    with pytest.raises(InputError, match="made with other values of depth, model;"):
        write(out, ROWS, resume=True, settings=other)
    with pytest.raises(InputError, match=r"row 2 of .* is not made from row 2 of the input"):
        write(out, [ROWS[0], ROWS[2], ROWS[1]], resume=True)
    with pytest.raises(InputError, match="row 2 of"):
        write(out, ROWS[:1], resume=True)
    (tmp_path / "out.jsonl.partial.json").unlink()
    with pytest.raises(InputError, match="overwrite starts again"):
        write(out, ROWS, resume=True)
    assert write(out, ROWS, overwrite=True).done == 0


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    """A complete file stays, with and without resume, and stays until an overwriting run is complete."""
    out = tmp_path / "out.jsonl"
    write(out, ROWS[:1])
    before = out.read_bytes()
    for options in ({}, {"resume": True}):
        with pytest.raises(InputError, match="exists already"):
            write(out, ROWS, **options)
    with pytest.raises(InputError, match="give one of them"):
        write(out, ROWS, resume=True, overwrite=True)
    with pytest.raises(Interruption):
        write(out, ROWS, stop=1, overwrite=True)
    assert out.read_bytes() == before
    write(out, ROWS, overwrite=True)
    assert list(open_rows([out])) == ROWS


def test_settings_are_on_disk_as_digests_alone(tmp_path: Path) -> None:
    """An option may be the key of an endpoint, so that no value is written."""
    interrupted(tmp_path / "out.jsonl", 1)
    record = (tmp_path / "out.jsonl.partial.json").read_text()
    assert "secret" not in record
    assert sorted(json.loads(record)) == ["model", "options"]


def test_what_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    """NaN is an error that names the row, the rows before it are kept, and a run that wrote nothing leaves nothing."""
    bad = TrainingRow("q", ("a",), scores=(math.nan,), id="bad")
    out = tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="row 'bad' has a number that is not finite"):
        write(out, [bad])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="'bad'"):
        write(out, [ROWS[0], bad])
    assert len((tmp_path / "out.jsonl.partial").read_bytes().splitlines()) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that is a file is an error with the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out\.jsonl\.partial' cannot be written"):
        write(tmp_path / "file" / "out.jsonl", ROWS)
