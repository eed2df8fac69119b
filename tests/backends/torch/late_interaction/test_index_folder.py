"""A folder of embeddings is whole, or refused with a message that says why; whatever interrupts a call spoils none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.models.late import NEW, SPEC, TEXTS, saved, shards
from helpers.plain import QUERIES, assert_close
from rerank_core import Head, IndexStoreError, InputError, Reranker, Template, TokenVectors

# What a folder can be asked with that its embeddings were not made with, and what the message names.
OPTIONS: dict[str, dict[str, Any]] = {
    "max_length": {"max_length": 32},
    "overlap": {"overlap": 3},
    "windows": {"longdoc": "firstp"},
    "parse_special_tokens": {"parse_special_tokens": True},
}
SPECS = {
    "head": replace(SPEC, head=Head.maxsim("mean")),
    "skip": replace(SPEC, head=Head.maxsim("sum", TokenVectors(skip=("!",)))),
    "template": replace(SPEC, template=Template.each(doc="text: {doc}")),
}


def cut_short(folder: Path) -> None:
    shard = shards(folder)[0]
    shard.write_bytes(shard.read_bytes()[:-1])


def flip(place: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        shard = shards(folder)[0]
        data = bytearray(shard.read_bytes())
        data[int(place * (len(data) - 1))] ^= 1
        shard.write_bytes(data)

    return damage


def tell(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "manifest.json").write_text(text, encoding="utf-8")


def change(**told: Any) -> Callable[[Path], object]:
    """What the manifest says of the index, or of its shards where the name is one of theirs; None takes it out."""

    def damage(folder: Path) -> None:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        for name, value in told.items():
            for owner in [manifest] if name in manifest else manifest["shards"]:
                owner[name] = value
                if value is None:
                    del owner[name]
        tell(json.dumps(manifest))(folder)

    return damage


def without(tensor: str) -> Callable[[Path], None]:
    """A shard as another program might have written it, under the digest that the manifest expects."""

    def damage(folder: Path) -> None:
        (shard,) = shards(folder)
        tensors = {name: own.clone() for name, own in load_file(shard).items() if name != tensor}
        save_file(tensors, shard)
        change(sha256=hashlib.sha256(shard.read_bytes()).hexdigest(), bytes=shard.stat().st_size)(folder)

    return damage


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "shard cut short": (cut_short, "damaged or truncated"),
    "bit of its header": (flip(0.0), "damaged or truncated"),
    "bit in its middle": (flip(0.5), "damaged or truncated"),
    "its last bit": (flip(1.0), "damaged or truncated"),
    "shard missing": (lambda folder: shards(folder)[0].unlink(), "cannot be read.*No such file"),
    "shard a folder": (lambda folder: (shards(folder)[0].unlink(), shards(folder)[0].mkdir()), "safetensors"),
    "manifest missing": (lambda folder: (folder / "manifest.json").unlink(), "is no index and not empty"),
    "manifest empty": (tell(""), "cannot be read.*Make the index again"),
    "manifest no JSON": (tell('{"schema_version": 1,'), "cannot be read.*Make the index again"),
    "manifest a list": (tell("[]"), "cannot be read.*Make the index again"),
    "manifest nested without end": (tell("[" * 200_000), "cannot be read.*Make the index again"),
    "schema of the future": (change(schema_version=2), "schema_version is 2; this rerank-core reads 1"),
    "no schema": (change(schema_version=None), "cannot be read.*schema_version"),
    "no precision": (change(precision=None), "cannot be read.*precision"),
    "no identity": (change(identity=[]), "cannot be read.*identity"),
    "shards missing": (change(shards=None), "cannot be read.*shards"),
    "file above": (change(file="../kept.safetensors"), "outside its folder"),
    "file elsewhere": (change(file="/etc/hostname"), "outside its folder"),
    "file the folder above": (change(file=".."), "its entry in manifest.json|cannot be read"),
    "file no name": (change(file=7), "outside its folder"),
    "digest of another": (change(sha256="0" * 64), "damaged or truncated"),
}


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no digests": (without("index.digests"), ""),
    "no vectors": (without("vectors"), ""),
    "no probe": (without("probe.vectors"), ""),
    "unknown precision": (change(precision="float8"), "float8"),
    "drift no numbers": (change(precision="float16", drift=["a", "b"]), ""),
}
"""What no crash and no program of ours makes of a folder."""


@pytest.mark.parametrize("name", ODD)
def test_an_odd_folder_is_refused(tiny: Reranker, kept: Path, name: str) -> None:
    """A folder that cannot be an index's is refused when it is opened, whatever its digests say."""
    damage, message = ODD[name]
    damage(kept)

    with pytest.raises(IndexStoreError, match=f"(?s)kept.*{message}"):
        tiny.index(TEXTS, kept)


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused(tiny: Reranker, kept: Path, name: str) -> None:
    """The message names the folder or file and says what to do; nothing is written over."""
    damage, message = DAMAGE[name]
    damage(kept)
    before = {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()}

    with pytest.raises(IndexStoreError, match=f"(?s)kept.*{message}"):
        tiny.index([*TEXTS, *NEW], kept)
    assert {path.name: path.read_bytes() for path in kept.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("made", [lambda path: (path.mkdir(), (path / "mine.txt").touch()), Path.touch])
def test_what_is_no_index_is_left_alone(tiny: Reranker, tmp_path: Path, made: Callable[[Path], object]) -> None:
    """A folder with other files, or a file, is not taken for an index."""
    made(tmp_path / "mine")

    with pytest.raises(IndexStoreError, match=r"mine' is no index and not empty; name a folder of its own"):
        tiny.index(TEXTS, tmp_path / "mine")


def test_an_empty_folder_is_taken(tiny: Reranker, tmp_path: Path) -> None:
    """A folder that is there and holds nothing will do, and one inside a folder that is not there."""
    for where in (tmp_path, tmp_path / "one" / "two"):
        tiny.index(NEW, where)
        assert [path.name for path in where.glob("*.json")] == ["manifest.json"]


def test_whoever_reads_other_files_reads_an_index(tiny: Reranker, tmp_path: Path) -> None:
    """Files of an index have the mode that this user's files have."""
    tiny.index(NEW, tmp_path / "index")
    (tmp_path / "other").touch()

    assert {path.stat().st_mode for path in (tmp_path / "index").iterdir()} == {(tmp_path / "other").stat().st_mode}


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_another_precision_is_refused(tiny: Reranker, kept: Path, precision: Any) -> None:
    """A folder keeps one precision; another is refused, the same and none are not, and no other name is one."""
    with pytest.raises(IndexStoreError, match=f"in 'float32', and precision is '{precision}'; leave it out"):
        tiny.index(TEXTS, kept, precision=precision)
    assert tiny.index(TEXTS, kept, precision="float32").precision == "float32"
    with pytest.raises(InputError, match="precision is 'int4'; it must be one of"):
        tiny.index(TEXTS, kept, precision="int4")


@pytest.mark.parametrize("of", ["nothing new", "new texts"])
def test_another_model_is_refused(stored: Path, tmp_path: Path, of: str) -> None:
    """Of the same name and settings and with other weights, a model is known by what it makes of a text."""
    other = rerank_core.load(saved(tmp_path / "tiny", seed=1), device="cpu")

    with pytest.raises(IndexStoreError, match=r"made by another model: .* other vectors. Load the one that made it"):
        other.index(TEXTS if of == "nothing new" else NEW, stored)


@pytest.mark.parametrize("name", [*OPTIONS, *SPECS])
def test_other_settings_are_refused(folder: Path, stored: Path, tmp_path: Path, name: str) -> None:
    """Whatever changes windows or vectors is refused, and the message says what differs."""
    model = saved(tmp_path / "tiny", SPECS[name]) if name in SPECS else folder
    other = rerank_core.load(model, device="cpu", **OPTIONS.get(name, {}))

    with pytest.raises(IndexStoreError, match=rf"with other settings \({name if name in OPTIONS else '(head|templ)'}"):
        other.index(TEXTS, stored)


@dataclass(frozen=True)
class First:
    """A caller's own strategy: so many tokens of a document."""

    count: int
    name: ClassVar[str] = "first"

    def windows(self, length: int, room: int, overlap: int) -> list[tuple[int, int]]:
        return [(0, min(length, room, self.count))]

    def combine(self, scores: Any) -> float:
        return float(scores[0])


class Ends(First):
    """The first and the last so many tokens, which of a short document are the same."""

    def windows(self, length: int, room: int, overlap: int) -> list[tuple[int, int]]:
        return [(0, min(length, self.count)), (max(0, length - self.count), length)]

    def combine(self, scores: Any) -> float:
        return float(max(scores))


def test_a_strategy_of_the_callers_own_is_known_by_its_settings(folder: Path, tmp_path: Path) -> None:
    """A folder made with one number of tokens is refused to another, or gives that one's scores."""
    rerank_core.load(folder, device="cpu", longdoc=First(2)).index(TEXTS, tmp_path / "index")
    other = rerank_core.load(folder, device="cpu", longdoc=First(20))
    try:
        found = other.rerank(QUERIES[0], other.index(TEXTS, tmp_path / "index")).scores()
    except IndexStoreError:
        return
    assert_close(other.rerank(QUERIES[0], TEXTS).scores(), found)


def test_windows_that_are_the_same_are_indexed(folder: Path, tmp_path: Path) -> None:
    """A strategy may give one window twice; index and documents still score alike."""
    reranker = rerank_core.load(folder, device="cpu", longdoc=Ends(20))
    expected = reranker.rerank(QUERIES[0], TEXTS).scores()

    assert_close(expected, reranker.rerank(QUERIES[0], reranker.index(TEXTS, tmp_path / "index")).scores())


def test_a_coarser_dtype_may_add_to_a_folder(tiny: Reranker, folder: Path, kept: Path) -> None:
    """Where a model in bfloat16 was let in, the one that made the folder still is."""
    rerank_core.load(folder, device="cpu", dtype="bfloat16").index([*TEXTS, *NEW], kept)

    assert len(tiny.index([*TEXTS, *NEW], kept)) == len(TEXTS) + len(NEW)
