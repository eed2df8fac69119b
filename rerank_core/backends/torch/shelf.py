"""Where an index keeps its embeddings: in memory, or in a folder that later processes open.

A folder holds shards (safetensors, mapped into memory, never written again) and ``manifest.json``, which alone says
what belongs to the index and is replaced in one step: a crash leaves what was there before.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rerank_core.backends.checkpoints import sha256_of
from rerank_core.backends.torch import residual
from rerank_core.backends.torch.embeddings import Block, Embedding, Part, Place, gather, pressed
from rerank_core.errors import IndexStoreError
from rerank_core.indexable import ShelfWindow, Shelved

__all__ = ["MANIFEST", "DiskShelf", "MemoryShelf"]

MANIFEST = "manifest.json"
_SCHEMA = 1
_OWN = "index."  # what begins so in a shard is the index's own, all else parts of embeddings
_PROBE = "probe."

# Length of the difference of the probe's vectors that is rounding, where both models compute in float32 and where not.
_SAME, _ALIKE = 1e-3, 5e-2


class MemoryShelf:
    """Embeddings in this process, by the digest of their text."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self._drift = _Drift()
        self._held: dict[bytes, Shelved] = {}

    @property
    def drift(self) -> Mapping[str, float]:
        return self._drift.shown

    def find(self, digest: bytes) -> Shelved | None:
        return self._held.get(digest)

    def add(self, texts: Mapping[bytes, Shelved]) -> None:
        block, placed = _laid_out(texts)
        block, moved = pressed(block, self.precision)
        self._drift.add(moved)
        self._held.update(_placed(texts, block, placed))


class DiskShelf:
    """Embeddings in a folder. Use `open`."""

    def __init__(self, directory: Path, manifest: dict[str, Any], probe: Embedding, device: torch.device) -> None:
        self._directory = directory
        self._manifest = manifest
        self._probe = probe
        self._device = device
        self._held: dict[bytes, Shelved] = {}
        for shard in manifest["shards"]:
            self._read(shard)

    @classmethod
    def open(
        cls,
        directory: str,
        precision: str | None,
        identity: Mapping[str, Any],
        probe: Embedding,
        *,
        exact: bool,
        device: torch.device,
    ) -> DiskShelf:
        """The shelf in a folder, a new one where there is none.

        Args:
            probe: the embedding of a fixed text, by which a model is known whatever it is called.
            exact: whether the model computes in float32.

        Raises:
            IndexStoreError: damaged files, another model, other settings or another precision.
        """
        folder = Path(directory)
        identity = json.loads(json.dumps(identity))
        if not (folder / MANIFEST).exists():
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise IndexStoreError(f"{directory!r} is no index and not empty; name a folder of its own")
            fresh = {"schema_version": _SCHEMA, "identity": identity, "exact": exact, "shards": []}
            return cls(folder, {**fresh, "precision": precision or "float32"}, probe, device)
        manifest = _manifest(folder / MANIFEST)
        if precision not in (None, manifest["precision"]):
            raise IndexStoreError(
                f"{directory!r} keeps embeddings in {manifest['precision']!r}, and precision is {precision!r}; leave "
                "it out, or make another index"
            )
        if manifest["identity"] != identity:
            keys = sorted({*identity, *manifest["identity"]})
            apart = [key for key in keys if manifest["identity"].get(key) != identity.get(key)]
            said = "; ".join(
                f"{key}: {manifest['identity'].get(key)!r} there, {identity.get(key)!r} here" for key in apart
            )
            raise IndexStoreError(
                f"{directory!r} was made by another model or with other settings ({said}); load the same, or make "
                "another index"
            )
        shelf = cls(folder, manifest, probe, device)
        shelf._check_model(exact)
        return shelf

    @property
    def precision(self) -> str:
        return str(self._manifest["precision"])

    @property
    def drift(self) -> Mapping[str, float]:
        total = _Drift()
        for shard in self._manifest["shards"]:
            total.add((*shard["drift"], shard["vectors"]))
        return total.shown if self.precision != "float32" else {}

    def find(self, digest: bytes) -> Shelved | None:
        return self._held.get(digest)

    def add(self, texts: Mapping[bytes, Shelved]) -> None:
        """Write one shard, then the manifest that knows of it."""
        block, placed = _laid_out(texts)
        block, (mean, most, vectors) = pressed(block, self.precision)
        tensors = {**_written(texts, placed), **{_PROBE + name: own for name, own in self._probe.items()}}
        for name, part in block.parts.items():
            tensors[name], tensors[f"{name}.bounds"] = part.data, part.bounds
            if part.coding is not None:
                coded = {"centroids": part.coding.centroids, "codes": part.coding.codes, "scales": part.coding.scales}
                tensors.update({f"{name}.{key}": value for key, value in coded.items()})
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = self._directory / f".{uuid.uuid4().hex}.tmp"
        try:
            unfinished.touch()
            mode = unfinished.stat().st_mode  # as this user's files have it; safetensors makes them private
            save_file({name: own.detach().cpu().contiguous() for name, own in tensors.items()}, str(unfinished))
            unfinished.chmod(mode)
            digest = sha256_of(unfinished)
            shard: dict[str, Any] = {
                "file": f"{digest[:16]}.safetensors", "sha256": digest, "bytes": unfinished.stat().st_size,
                "texts": len(texts), "vectors": vectors, "drift": [mean, most],
            }  # fmt: skip
            _settle(unfinished, self._directory / shard["file"])
        finally:
            unfinished.unlink(missing_ok=True)
        manifest = {**self._manifest, "shards": [*self._manifest["shards"], shard]}
        unfinished = self._directory / f".{uuid.uuid4().hex}.tmp"
        try:
            unfinished.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            _settle(unfinished, self._directory / MANIFEST)
        finally:
            unfinished.unlink(missing_ok=True)
        self._manifest = manifest
        self._read(shard)

    def _read(self, shard: Mapping[str, Any]) -> None:
        path = self._directory / str(shard["file"])
        try:
            if path.stat().st_size != shard["bytes"] or sha256_of(path) != shard["sha256"]:
                raise IndexStoreError(f"{path} is not what {MANIFEST} says it is: damaged, or cut short. {_AGAIN}")
            with safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
        except (OSError, SafetensorError) as error:
            raise IndexStoreError(f"{path} cannot be read: {error}. {_AGAIN}") from error
        names = [name for name in tensors if f"{name}.bounds" in tensors and not name.startswith((_OWN, _PROBE))]
        parts = {name: _part(tensors, name, self._device) for name in names}
        self._made_by = {name.removeprefix(_PROBE): own for name, own in tensors.items() if name.startswith(_PROBE)}
        self._held.update(_shelved(tensors, Block(parts)))

    def _check_model(self, exact: bool) -> None:
        if not self._manifest["shards"]:
            return
        limit = _SAME if exact and self._manifest["exact"] else _ALIKE
        for name, own in self._probe.items():
            there = self._made_by.get(name)
            if there is not None and there.shape == own.shape:
                apart = (there.float() - own.float().cpu()).reshape(len(own), -1).norm(dim=-1)
                if float(apart.max()) <= limit * max(1.0, float(own.float().reshape(len(own), -1).norm(dim=-1).max())):
                    continue
            raise IndexStoreError(
                f"{str(self._directory)!r} was made by another model: a text that both read has other {name}. Load the "
                "one that made it, or make another index"
            )


_AGAIN = "Make the index again in another folder"


class _Drift:
    """How far a lower precision moved vectors, over several shards."""

    def __init__(self) -> None:
        self._sum, self._max, self._count = 0.0, 0.0, 0

    def add(self, moved: tuple[float, float, int]) -> None:
        mean, most, count = moved
        self._sum, self._max, self._count = self._sum + mean * count, max(self._max, most), self._count + count

    @property
    def shown(self) -> dict[str, float]:
        return {"mean": self._sum / self._count, "max": self._max} if self._count else {}


def _laid_out(texts: Mapping[bytes, Shelved]) -> tuple[Block, list[int]]:
    """All windows of the texts as a block, and the row of each, in the order of the texts."""
    block, order = gather([window.embedding for shelved in texts.values() for window in shelved.windows])
    rows = [0] * len(order)
    for row, window in enumerate(order):
        rows[window] = row
    return block, rows


def _placed(texts: Mapping[bytes, Shelved], block: Block, rows: Sequence[int]) -> Iterator[tuple[bytes, Shelved]]:
    row = iter(rows)
    for digest, shelved in texts.items():
        windows = [replace(window, embedding=Place(block, next(row))) for window in shelved.windows]
        yield digest, Shelved(windows, shelved.truncated)


def _written(texts: Mapping[bytes, Shelved], rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """What is known of the texts, as tensors."""
    windows = [window for shelved in texts.values() for window in shelved.windows]
    return {
        _OWN + "digests": torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8).view(len(texts), -1),
        _OWN + "counts": torch.tensor([len(shelved.windows) for shelved in texts.values()]),
        _OWN + "truncated": torch.tensor([shelved.truncated for shelved in texts.values()]),
        _OWN + "windows": torch.tensor([[*w.tokens, *w.chars, row] for w, row in zip(windows, rows, strict=True)]),
    }


def _shelved(tensors: Mapping[str, torch.Tensor], block: Block) -> Iterator[tuple[bytes, Shelved]]:
    digests, counts, truncated, windows = (
        tensors[_OWN + name] for name in ("digests", "counts", "truncated", "windows")
    )
    found = iter(windows.tolist())
    whole = digests.numpy()
    for place, (count, cut) in enumerate(zip(counts.tolist(), truncated.tolist(), strict=True)):
        own = []
        for _ in range(count):
            start, stop, first, last, row = next(found)
            own.append(ShelfWindow((start, stop), (first, last), Place(block, row)))
        yield whole[place].tobytes(), Shelved(own, cut)


def _part(tensors: Mapping[str, torch.Tensor], name: str, device: torch.device) -> Part:
    coding = None
    if f"{name}.codes" in tensors:
        coding = residual.Coding(*(tensors[f"{name}.{key}"] for key in ("centroids", "codes", "scales")))
    return Part(tensors[name], tensors[f"{name}.bounds"], coding, device)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["schema_version"] != _SCHEMA:
            raise IndexStoreError(
                f"{path}: schema_version is {manifest['schema_version']!r}; this rerank-core reads {_SCHEMA}. {_AGAIN}"
            )
        shards = [
            {key: shard[key] for key in ("file", "sha256", "bytes", "vectors", "drift")} for shard in manifest["shards"]
        ]
        if not all(Path(str(shard["file"])).name == shard["file"] for shard in shards):
            raise IndexStoreError(f"{path} names files outside its folder; it was not written by rerank-core")
        if not isinstance(manifest["identity"], dict) or not isinstance(manifest["precision"], str):
            raise TypeError("identity must be an object and precision a string")
        _ = manifest["exact"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexStoreError(f"{path} cannot be read ({type(error).__name__}: {error}). {_AGAIN}") from error
    found: dict[str, Any] = manifest
    return found


def _settle(unfinished: Path, path: Path) -> None:
    """Give a finished file its name, so that it is there whole or not at all, after a power cut too."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
