"""A disk that is full while a run, a published folder or labelled rows are written: typed, and the old state stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from helpers.runs import MakeRows, Prepared, folder, trained

from helpers.limits import full_disk, resource
from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.atomic_files import staging_folder
from rerank_trainers.config.parse import write_config
from rerank_trainers.data.row_writer import RowWriter
from rerank_trainers.errors import CheckpointWriteError, PublishError
from rerank_trainers.model.checkpoint_files import whole_checkpoints
from rerank_trainers.publish.publish import publish


class Filling(transformers.TrainerCallback):  # type: ignore[misc]
    """Fills the disk after the next step."""

    def __init__(self, room: int) -> None:
        self.room = room

    def on_step_end(self, *args: Any, **more: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.room, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def test_a_checkpoint_that_does_not_fit(prepared: Prepared, rows: MakeRows) -> None:
    """Weights (safetensors), optimizer (torch) and text (Python) alike: the half checkpoint goes, the one before
    stands, and the run goes on from it."""
    told = ("train.epochs=2", "train.eval_steps=1", "train.keep_checkpoints=1", "train.arguments.optim=adamw_torch")
    first = prepared(*told, "train.max_steps=1", rows=rows(4))
    first.train()
    sizes = {path.name: path.stat().st_size for path in folder(first, 1).iterdir()}
    assert sizes["optimizer.pt"] > sizes["model.safetensors"] > 4096
    out = f"train.out={first.config.train.out}"
    # In the weights, in the optimizer behind them, and in the first text, config.json.
    for room in (sizes["model.safetensors"] - 1, sizes["optimizer.pt"] - 4096, 200):
        again = prepared(*told, "train.max_steps=2", out, rows=rows(4))
        again.trainer.add_callback(Filling(room))
        # Nothing is full at first; the limit that `Filling` sets is taken off again.
        with (
            pytest.raises(CheckpointWriteError, match=r"checkpoint-2' cannot be written: .*--resume"),
            full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[0]),
        ):
            again.train(resume=True)
        assert list(whole_checkpoints(first.config.train.out, resumable=True)) == [1]
        assert not folder(first, 2).exists()
    trained(prepared(*told, "train.max_steps=2", out, rows=rows(4)), resume=True)
    assert folder(first, 2).is_dir()


def test_a_folder_that_does_not_fit(prepared: Prepared, rows: MakeRows, tmp_path: Path) -> None:
    """Publishing says so, nothing of it stays, and what stood there does."""
    run = prepared(rows=rows(4))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "reranker.json").write_text("{}")
    for room in (4096, 200):
        with full_disk(room), pytest.raises(PublishError, match=r"out' cannot be written: .*nothing was published"):
            publish(run.model, tmp_path / "out", overwrite=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith((".out", "out"))] == ["out"]
    assert (tmp_path / "out" / "reranker.json").read_text() == "{}"


def test_rows_and_settings_that_do_not_fit(prepared: Prepared, tmp_path: Path) -> None:
    """Labelled rows keep what fitted, to go on with; settings keep the file before."""
    row = TrainingRow("q" * 500, ("a", "b"), (1.0, 0.0), id="1")

    def write() -> None:
        with RowWriter(tmp_path / "rows.jsonl", settings={}, rows=[row] * 20) as out:
            for _ in range(20):
                out.write(row)

    message = r"rows.jsonl.partial' cannot be written: .*continue with resume"
    with full_disk(4096), pytest.raises(InputError, match=message):
        write()
    assert (tmp_path / "rows.jsonl.partial").stat().st_size > 3000
    with RowWriter(tmp_path / "rows.jsonl", settings={}, rows=[row] * 20, resume=True) as out:
        for _ in range(20 - out.done):
            out.write(row)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 20

    config = prepared().config
    write_config(config, tmp_path / "config.json")
    before = (tmp_path / "config.json").read_bytes()
    with full_disk(100), pytest.raises(InputError, match=r"config.json' cannot be written"):
        write_config(config, tmp_path / "config.json")
    assert (tmp_path / "config.json").read_bytes() == before
    assert {path.name for path in tmp_path.glob(".config*")} == set()


def test_what_a_killed_publisher_left_is_collected(tmp_path: Path) -> None:
    """Folders that no process holds go with the next call; one that is being written stays; a folder whose replacement
    never came is given its name again."""
    target = tmp_path / "out"
    for name in (".out.0123abcd", ".out.old-0123abcd", ".other.0123abcd", ".out.mine"):
        (tmp_path / name).mkdir()
    code = (
        "import sys, pathlib, os\nfrom rerank_trainers.atomic_files import staging_folder\n"
        "with staging_folder(pathlib.Path(sys.argv[1])) as folder:\n    print(folder.name, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        held = other.stdout.readline().strip()
        with staging_folder(target) as own:
            there = {path.name for path in tmp_path.iterdir()}
        assert there == {"out", held, own.name, ".other.0123abcd", ".out.mine"}
        other.kill()
    with staging_folder(target):
        assert not (tmp_path / held).exists()
