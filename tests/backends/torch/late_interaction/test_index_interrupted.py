"""Whatever ends a call that writes an index, what was in the folder still is, and the call can be made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from helpers.forked import run_python
from helpers.limits import full_disk
from helpers.models.late import NEW, TEXTS, reading, shards
from helpers.plain import QUERIES, Plain, assert_close
from rerank_core import IndexStoreError, InputError, Reranker
from rerank_core.backends.torch.late_interaction.store import disk
from rerank_core.backends.torch.late_interaction.store.files import write_lock
from rerank_core.index import index as index_module


@dataclass
class Breaks:
    """A function of the system that ends the call the ``time``-th time it is asked, as a full disk or Ctrl-C would."""

    real: Callable[..., Any]
    time: int
    error: BaseException
    asked: int = 0

    def __call__(self, *given: Any) -> Any:
        self.asked += 1
        if self.asked == self.time:
            if self.real is SAVE:
                Path(given[1]).write_bytes(b"half a shard")
            raise self.error
        return self.real(*given)


SAVE = disk.save_file
POINTS = [("save", 1), ("replace", 1), ("replace", 2), *[("fsync", time) for time in (1, 2, 3, 4)]]


def broken(monkeypatch: pytest.MonkeyPatch, point: tuple[str, int], error: BaseException) -> None:
    name, time = point
    owner, attribute = (disk, "save_file") if name == "save" else (os, name)
    monkeypatch.setattr(owner, attribute, Breaks(getattr(owner, attribute), time, error))


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=["full", "stopped"])
@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_write_that_fails_leaves_the_index(
    tiny: Reranker, kept: Path, monkeypatch: pytest.MonkeyPatch, point: tuple[str, int], error: BaseException
) -> None:
    """Wherever writing ends, what was in the folder is, no unfinished file stays, and the next call mends it."""
    expected = tiny.rerank(QUERIES[0], tiny.index(TEXTS, kept)).scores()
    with monkeypatch.context() as patch:
        broken(patch, point, error)
        with pytest.raises(IndexStoreError if isinstance(error, OSError) else type(error)):
            tiny.index([*TEXTS, *NEW], kept)

    assert {path.suffix for path in kept.iterdir() if path.name != ".lock"} == {".json", ".safetensors"}
    assert tiny.rerank(QUERIES[0], tiny.index(TEXTS, kept)).scores() == expected
    again = tiny.index([*TEXTS, *NEW], kept)
    assert_close([*expected, *tiny.rerank(QUERIES[0], NEW).scores()], tiny.rerank(QUERIES[0], again).scores())
    assert set(kept.glob("*.safetensors")) == set(shards(kept))


@pytest.mark.parametrize("room", [0, 100, 5000])
def test_a_full_disk_is_said_and_leaves_the_index(tiny: Reranker, kept: Path, room: int, tmp_path: Path) -> None:
    """Where the system refuses to write a shard or a manifest, the error is typed, for a folder that is there and for a
    new one; the old state opens, nothing unfinished stays, and the same call succeeds once there is room."""
    before = {path.name: path.read_bytes() for path in kept.iterdir()}
    for folder in (kept, tmp_path / "new"):
        with full_disk(room), pytest.raises(IndexStoreError, match=r"cannot be written: .*File too large"):
            tiny.index([*TEXTS, *NEW], folder)

    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert {path.suffix for path in (tmp_path / "new").iterdir()} <= {"", ".json"}
    for folder in (kept, tmp_path / "new"):
        assert len(tiny.index([*TEXTS, *NEW], folder)) == len(TEXTS) + len(NEW)


KILLED = """
import os, signal, sys
import rerank_core
from rerank_core.backends.torch.late_interaction.store import disk
from helpers.models.late import NEW

def dies(*given):
    os.kill(os.getpid(), signal.SIGKILL)

save, commit = disk.save_file, disk.commit

def half(tensors, path):
    save(tensors, path)
    dies()

def between(file, path):
    commit(file, path)
    if path.suffix == ".safetensors":
        dies()

for name, own in (("save_file", half), ("commit", between)):
    if (child := os.fork()) == 0:
        setattr(disk, name, own)
        rerank_core.load(sys.argv[1], device="cpu").index(NEW, sys.argv[2])
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    print(*sorted(os.listdir(sys.argv[2])))
"""


def test_what_killed_writers_left_is_deleted(tiny: Reranker, folder: Path, kept: Path, tmp_path: Path) -> None:
    """Killed while it writes a shard, and between the shard and the manifest, a writer leaves an unfinished file and
    a shard that nobody counts; the next call that opens the folder deletes both, and no file of another name."""
    counted = {path.name for path in shards(kept)}
    own = {*counted, "manifest.json", ".lock"}
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    found = run_python(str(script), str(folder), str(kept))
    assert found.returncode == 0, found.stderr
    (kept / "notes.safetensors").touch()
    tiny.index(TEXTS, kept)

    first, second = ({*line.split()} - own for line in found.stdout.splitlines())
    assert [Path(name).suffix for name in first] == [".tmp"]
    assert [Path(name).suffix for name in second] == [".safetensors"]
    assert {path.name for path in kept.iterdir()} == {*own, "notes.safetensors"}


def test_files_of_a_writer_at_work_are_left_alone(tiny: Reranker, kept: Path) -> None:
    """While another process holds the folder's lock, an unfinished file is its own, and stays."""
    (kept / f".{'0' * 32}.tmp").touch()
    with write_lock(kept):
        tiny.index(TEXTS, kept)
        assert (kept / f".{'0' * 32}.tmp").exists()
    tiny.index(TEXTS, kept)

    assert not (kept / f".{'0' * 32}.tmp").exists()


def test_a_path_that_the_system_refuses_is_a_typed_error(tiny: Reranker, tmp_path: Path) -> None:
    """A name too long for any file system, and a folder inside a file, are errors that name it."""
    (tmp_path / "file").touch()

    with pytest.raises(InputError, match="which no file can be called"):
        tiny.index(NEW, tmp_path / ("x" * 5000))
    with pytest.raises(IndexStoreError, match="cannot be"):
        tiny.index(NEW, tmp_path / "file" / "index")


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_a_first_write_that_fails_can_be_repeated(
    tiny: Reranker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: tuple[str, int]
) -> None:
    """A call that makes a folder and is interrupted can simply be made again."""
    with monkeypatch.context() as patch:
        broken(patch, point, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            tiny.index(NEW, tmp_path / "index")

    index = tiny.index(NEW, tmp_path / "index")
    assert_close(tiny.rerank(QUERIES[0], NEW).scores(), tiny.rerank(QUERIES[0], index).scores())


def test_finished_parts_outlive_an_interruption(
    tiny: Reranker, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three parts of which the last is interrupted, two are kept, and only the last is read again."""
    texts = [f"the text with the number {number}" for number in range(6)]
    monkeypatch.setattr(index_module, "_SHARD_DOCUMENTS", 2)

    def stop(passes: int) -> None:
        if passes == 3:  # one of the fixed text, two of parts
            raise KeyboardInterrupt

    with reading(tiny, stop), pytest.raises(KeyboardInterrupt):
        tiny.index(texts, tmp_path / "index")
    assert len(shards(tmp_path / "index")) == 2
    with reading(tiny) as seen:
        index = tiny.index(texts, tmp_path / "index")

    assert seen[1:] == [sum(len(Plain(folder).ids(text)) + 2 for text in texts[4:])]
    assert_close(tiny.rerank(QUERIES[0], texts).scores(), tiny.rerank(QUERIES[0], index).scores())


def test_writers_keep_each_others_texts(folder: Path, tiny: Reranker, kept: Path) -> None:
    """What another writer adds while this one encodes is kept: nothing is read a second time."""
    other = rerank_core.load(folder, device="cpu")

    def meanwhile(passes: int) -> None:
        if passes == 1:
            other.index(NEW[:1], kept)

    with reading(tiny, meanwhile):
        tiny.index(NEW[1:], kept)
    with reading(tiny) as seen:
        tiny.index([*TEXTS, *NEW], kept)

    assert len(seen) == 1
