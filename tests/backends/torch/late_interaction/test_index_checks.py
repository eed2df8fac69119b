"""A folder whose digests are right and whose numbers are not is refused when it is opened, or answers rightly."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.models.late import LONG, TEXTS, saved, shards
from helpers.plain import QUERIES
from rerank_core import IndexStoreError, Reranker, load

SOME = (*TEXTS[:3], LONG)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def made(tiny: Reranker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small index in int8, which has most to say, not to be changed."""
    folder = tmp_path_factory.mktemp("made") / "index"
    tiny.index(SOME, folder, precision="int8")
    return folder


def tell(folder: Path, manifest: object) -> None:
    """Write a manifest."""
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def told(folder: Path) -> Any:
    """What a manifest says."""
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of the shard, under the digest that the manifest then expects."""
    (shard,) = shards(folder)
    tensors = {name: own.clone() for name, own in load_file(shard).items()}
    change(tensors)
    shard.unlink()
    save_file({name: own.contiguous() for name, own in tensors.items()}, shard)
    manifest = told(folder)
    manifest["shards"][0] |= {
        "sha256": hashlib.sha256(shard.read_bytes()).hexdigest(),
        "bytes": shard.stat().st_size,
    }
    tell(folder, manifest)


def answers(reranker: Reranker, folder: Path) -> Any:
    """What an index says of itself, and of a query."""
    index = reranker.index(SOME, folder)
    ranking = reranker.rerank(QUERIES[0], index)
    passages = [[(p.start, p.stop) for p in hit.passages] for hit in ranking]
    return ranking.scores(), passages, dict(index.drift), index.precision


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value of a JSON document stands."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, own in inner:
        yield from places(own, (*path, key))


ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    10**9,
    10**400,
    -0.5,
    NAN,
    INF,
    "",
    "float16",
    "x" * 64,
    [],
    [0.0, 0.0],
    {},
    [None],
]


def test_every_value_of_a_manifest_may_be_anything(tiny: Reranker, made: Path, tmp_path: Path) -> None:
    """Whatever stands in place of a value, or without it, the folder is refused with a typed error that names the file,
    or answers as before."""
    expected, kept = answers(tiny, made), Path(shutil.copytree(made, tmp_path / "kept"))
    manifest = told(kept)
    named = refused = 0
    for path in places(manifest):
        if path[:1] == ("identity",) and len(path) > 2:
            continue  # compared as a whole
        for value in [*ODD, KeyError]:
            other = [copy.deepcopy(manifest)]
            place: Any = other
            for key in (0, *path)[:-1]:
                place = place[key]
            if value is not KeyError:
                place[(0, *path)[-1]] = value
            elif path:
                del place[path[-1]]
            tell(kept, other[0])
            try:
                found = answers(tiny, kept)
            except IndexStoreError as error:
                named += "kept" in str(error)
                refused += 1
                continue
            # Of a drift it can be known only that it is one.
            assert found[:2] == expected[:2], (path, value)
            assert found[2:] == expected[2:] or "drift" in path, (path, value)
    assert named == refused > 100


def test_every_tensor_of_a_shard_may_be_anything(tiny: Reranker, made: Path, tmp_path: Path) -> None:
    """Another type, another shape, a missing tensor: refused, naming the tensor, or scores_from as before."""
    expected, told_of, refused = answers(tiny, made), 0, 0
    names = list(load_file(shards(made)[0]))
    changes: list[Callable[[torch.Tensor], torch.Tensor | None]] = [
        lambda own: None,
        lambda own: own.to(torch.int32 if own.dtype != torch.int32 else torch.int64),
        lambda own: own.to(torch.float64),
        lambda own: own[:-1],
        lambda own: torch.cat([own, own[-1:]]),
        lambda own: own[None],
        lambda own: own.reshape(-1),
        lambda own: own[:0],
        lambda own: own.new_zeros(()),
    ]
    for name in names:
        for number, change in enumerate(changes):
            kept = Path(shutil.copytree(made, tmp_path / f"{name}-{number}"))
            changed: list[bool] = []

            def apply(
                tensors: dict[str, torch.Tensor],
                name: str = name,
                change: Callable[[torch.Tensor], torch.Tensor | None] = change,
                changed: list[bool] = changed,
            ) -> None:
                own = tensors.pop(name)
                other = change(own)
                changed.append(other is None or (other.shape, other.dtype) != (own.shape, own.dtype))
                if other is not None:
                    tensors[name] = other

            rewrite(kept, apply)
            if not changed[0]:
                continue
            try:
                found = answers(tiny, kept)
            except IndexStoreError as error:
                told_of += name.split(".")[0] in str(error)
                refused += 1
                continue
            # Harmless: the probe in a finer type, or a centroid that no vector names.
            assert found == expected, (name, number)
    assert told_of == refused > 50


def put(name: str, place: Any, value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    """A number in a tensor."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name][place] = value

    return change


WINDOWS, LAST = "index.windows", (-1, 1)
VALUES: dict[str, tuple[Callable[[dict[str, torch.Tensor]], None], str]] = {
    "a token before the text": (put(WINDOWS, (0, 0), -7), "index.windows"),
    "a token far behind it": (put(WINDOWS, (0, 1), 10**9), "index.windows"),
    "a last token far behind it": (put(WINDOWS, LAST, 10**9), "index.windows"),
    "a token beyond all numbers": (put(WINDOWS, LAST, 2**62), "index.windows"),
    "tokens that end before they begin": (put(WINDOWS, (0, 0), 60), "index.windows"),
    "a character before the text": (put(WINDOWS, (0, 2), -7), "index.windows"),
    "a character far behind it": (put(WINDOWS, (0, 3), 10**9), "characters"),
    "a character just behind it": (put(WINDOWS, (0, 3), len(SOME[0]) + 1), "characters"),
    "characters that end too early": (put(WINDOWS, (0, 3), 1), "characters"),
    "a gap between windows": (put(WINDOWS, (-1, 0), 10**6), "index.windows"),
    "a row that is not there": (put(WINDOWS, (0, 4), 10**6), "index.windows"),
    "a row below zero": (put(WINDOWS, (0, 4), -1), "index.windows"),
    "a row twice": (put(WINDOWS, (slice(None), 4), 0), "index.windows"),
    "a text without a window": (put("index.counts", 0, 0), "index.counts"),
    "a text with too many": (put("index.counts", 0, 10**6), "index.counts"),
    "a number of windows below zero": (put("index.counts", 0, -1), "index.counts"),
    "numbers of windows that overflow": (put("index.counts", slice(None), 2**62), "index.counts"),
    "bounds that fall": (put("vectors.bounds", 1, 10**6), "vectors.bounds"),
    "bounds that begin later": (put("vectors.bounds", 0, 1), "vectors.bounds"),
    "a row without a vector": (put("vectors.bounds", 1, 0), "a vector"),
    "bounds below zero": (put("vectors.bounds", 1, -1), "vectors.bounds"),
    "a probe of NaN": (put("probe.vectors", (0, 0), NAN), "another model"),
}


@pytest.mark.parametrize("name", VALUES)
def test_numbers_out_of_range_are_refused(tiny: Reranker, made: Path, tmp_path: Path, name: str) -> None:
    """The message names the file or folder, and the field."""
    kept = Path(shutil.copytree(made, tmp_path / "kept"))
    change, said = VALUES[name]
    rewrite(kept, change)

    with pytest.raises(IndexStoreError, match=f"(?s)kept.*{said}"):
        tiny.index(SOME, kept)


@pytest.mark.parametrize(
    ("precision", "tensor", "value"),
    [
        ("float32", "vectors", NAN),
        ("float32", "vectors", INF),
        ("float16", "vectors", NAN),
        ("int8", "vectors.centroids", NAN),
        ("int8", "vectors.scales", INF),
        ("int8", "vectors.scales", -1.0),
        ("int8", "vectors.codes", 255),
    ],
)
def test_embeddings_that_no_query_could_be_compared_with(
    tiny: Reranker, tmp_path: Path, precision: str, tensor: str, value: float
) -> None:
    """NaN, infinity, a negative step and a centroid that is not there are refused, naming the tensor."""
    tiny.index(SOME, tmp_path / "kept", precision=precision)
    rewrite(tmp_path / "kept", put(tensor, 0, value))

    with pytest.raises(IndexStoreError, match=rf"kept.*{tensor}"):
        tiny.index(SOME, tmp_path / "kept")


def test_a_shard_that_is_named_twice_is_refused(tiny: Reranker, made: Path, tmp_path: Path) -> None:
    """One file counts once."""
    kept = Path(shutil.copytree(made, tmp_path / "kept"))
    manifest = told(kept)
    tell(kept, {**manifest, "shards": manifest["shards"] * 2})
    with pytest.raises(IndexStoreError, match="names a file twice"):
        tiny.index(SOME, kept)


def test_passages_of_another_text_are_not_explained(folder: Path, tmp_path: Path) -> None:
    """Windows that the text does not make are found where their tokens are named."""
    model = load(saved(tmp_path / "model"), device="cpu")
    kept = tmp_path / "kept"
    model.index(SOME, kept)

    def fewer(tensors: dict[str, torch.Tensor]) -> None:
        whole = tensors[WINDOWS][:, 1] > 3
        tensors[WINDOWS][whole.nonzero()[0], 1] -= 1

    rewrite(kept, fewer)
    index = model.index(SOME, kept)
    assert len(model.rerank(QUERIES[0], index)) == len(SOME)
    with pytest.raises(IndexStoreError, match="holds other passages"):
        model.rerank(QUERIES[0], index, explain=True)
