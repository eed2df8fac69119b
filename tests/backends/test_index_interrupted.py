"""Whatever ends a call that writes an index, what was in the folder still is, and the call can be made again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from backends.late import NEW, TEXTS, reading, shards
from backends.plain import QUERIES, Plain, assert_close
from rerank_core import IndexStoreError, Reranker, indexing
from rerank_core.backends.torch import disk_shelf


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


SAVE = disk_shelf.save_file
POINTS = [("save", 1), ("replace", 1), ("replace", 2), *[("fsync", time) for time in (1, 2, 3, 4)]]


def broken(monkeypatch: pytest.MonkeyPatch, point: tuple[str, int], error: BaseException) -> None:
    name, time = point
    owner, attribute = (disk_shelf, "save_file") if name == "save" else (os, name)
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
    monkeypatch.setattr(indexing, "_TOGETHER", 2)

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
