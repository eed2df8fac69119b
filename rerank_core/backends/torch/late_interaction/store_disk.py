"""An index in a folder that later processes open.

A folder holds shards (safetensors, mapped into memory, never written again) and ``manifest.json``, which alone says
what belongs to the index and is replaced in one step: a crash leaves what was there before.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from rerank_core.backends.locate import sha256_of
from rerank_core.backends.torch.late_interaction import residual_coding
from rerank_core.backends.torch.late_interaction.embeddings import Block, BlockPart, Embedding, RowRef, compressed
from rerank_core.backends.torch.late_interaction.store_checks import OWN, PROBE, Fit, check_shard
from rerank_core.backends.torch.late_interaction.store_files import collect, left_behind, settle, unfinished, writing
from rerank_core.backends.torch.late_interaction.store_manifest import MANIFEST, REBUILD_HINT, SCHEMA, manifest_of
from rerank_core.backends.torch.late_interaction.store_memory import Drift, laid_out
from rerank_core.errors import IndexStoreError
from rerank_core.index.protocols import StoredText, StoredWindow

__all__ = ["DiskStore"]

# Length of the difference of the probe's vectors that is rounding, where both models compute in float32 and where not.
_SAME, _ALIKE = 1e-3, 5e-2


class DiskStore:
    """Embeddings in a folder. Use `open`."""

    def __init__(
        self,
        directory: Path,
        manifest: dict[str, Any],
        probe: Embedding,
        exact: bool,
        device: torch.device,
        fit: Fit,
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._probe = probe
        self._exact = exact
        self._device = device
        self._fit = fit
        self._held: dict[bytes, StoredText] = {}
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
        fit: Fit,
    ) -> DiskStore:
        """The shelf in a folder, a new one where there is none.

        Args:
            probe: the embedding of a fixed text, by which a model is known whatever it is called.
            exact: whether the model computes in float32.
            fit: see `check_shard`.

        Raises:
            IndexStoreError: damaged files, another model, other settings or another precision, or a path that the
                system refuses.
        """
        try:
            shelf = cls._opened(Path(directory), precision, identity, probe, exact, device, fit)
            shelf._delete_left_behind()
        except OSError as error:
            raise IndexStoreError(f"{directory!r} cannot be opened as an index: {error}") from error
        return shelf

    @classmethod
    def _opened(
        cls,
        folder: Path,
        precision: str | None,
        identity: Mapping[str, Any],
        probe: Embedding,
        exact: bool,
        device: torch.device,
        fit: Fit,
    ) -> DiskStore:
        directory = str(folder)
        identity = json.loads(json.dumps(identity))
        if not (folder / MANIFEST).exists():
            # An interrupted first write leaves nothing but files that begin with a dot.
            if folder.exists() and (not folder.is_dir() or any(file.name[0] != "." for file in folder.iterdir())):
                raise IndexStoreError(f"{directory!r} is no index and not empty; name a folder of its own")
            fresh = {"schema_version": SCHEMA, "identity": identity, "precision": precision or "float32", "shards": []}
            return cls(folder, fresh, probe, exact, device, fit)
        manifest = manifest_of(folder / MANIFEST)
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
        return cls(folder, manifest, probe, exact, device, fit)

    @property
    def precision(self) -> str:
        return str(self._manifest["precision"])

    @property
    def drift(self) -> Mapping[str, float]:
        total = Drift()
        for shard in self._manifest["shards"]:
            total.add((*shard["drift"], shard["vectors"]))
        return total.shown if self.precision != "float32" else {}

    def find(self, digest: bytes) -> StoredText | None:
        return self._held.get(digest)

    def add(self, texts: Mapping[bytes, StoredText]) -> None:
        """Write one shard, then the manifest that knows of it."""
        block, placed = laid_out(texts)
        block, (mean, most, vectors) = compressed(block, self.precision)
        tensors = {**_written(texts, placed), **{PROBE + name: own for name, own in self._probe.items()}}
        for name, part in block.parts.items():
            tensors[name], tensors[f"{name}.bounds"] = part.data, part.bounds
            if part.coding is not None:
                coded = {"centroids": part.coding.centroids, "codes": part.coding.codes, "scales": part.coding.scales}
                tensors.update({f"{name}.{key}": value for key, value in coded.items()})
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with writing(self._directory):
                # First of all the folder becomes an index, so that what an interruption leaves in it is not in the way.
                self._write_manifest(())
                with unfinished(self._directory) as file:
                    file.touch()
                    mode = file.stat().st_mode  # as this user's files have it; safetensors makes them private
                    save_file({name: own.detach().cpu().contiguous() for name, own in tensors.items()}, str(file))
                    file.chmod(mode)
                    digest = sha256_of(file)
                    shard = {
                        "file": f"{digest[:16]}.safetensors", "sha256": digest, "bytes": file.stat().st_size,
                        "texts": len(texts), "vectors": vectors, "drift": [mean, most], "exact": self._exact,
                    }  # fmt: skip
                    settle(file, self._directory / f"{digest[:16]}.safetensors")
                self._write_manifest((shard,))
        except (OSError, SafetensorError) as error:
            raise IndexStoreError(
                f"{str(self._directory)!r} cannot be written: {error}. What it held before is as it was"
            ) from error
        self._read(shard)

    def _delete_left_behind(self) -> None:
        """Delete what killed writers left. A folder that another process writes to, or that cannot be written to,
        is read as it is."""
        if not self._directory.is_dir() or not left_behind(self._directory, self._counted()):
            return
        with contextlib.suppress(OSError), writing(self._directory, wait=False):
            collect(self._directory, self._counted())

    def _counted(self) -> set[str]:
        """The shards that the folder's manifest counts by now."""
        path = self._directory / MANIFEST
        return {str(shard["file"]) for shard in manifest_of(path)["shards"]} if path.exists() else set()

    def _write_manifest(self, shards: Sequence[Mapping[str, Any]]) -> None:
        """Add shards to what the folder has by now: another process may have added some since it was opened."""
        path = self._directory / MANIFEST
        there = manifest_of(path) if path.exists() else None
        if there is not None and not shards:
            same = all(there[key] == self._manifest[key] for key in ("identity", "precision"))
            if not same:
                raise IndexStoreError(f"{str(self._directory)!r} became another index meanwhile; name another folder")
            return
        manifest = there or self._manifest
        manifest = {**manifest, "shards": [*manifest["shards"], *shards]}
        with unfinished(self._directory) as file:
            file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            settle(file, path)
        self._manifest = manifest

    def _read(self, shard: Mapping[str, Any]) -> None:
        path = self._directory / str(shard["file"])
        try:
            if path.stat().st_size != shard["bytes"] or sha256_of(path) != shard["sha256"]:
                raise IndexStoreError(
                    f"{path} is not what {MANIFEST} says it is: damaged, or cut short. {REBUILD_HINT}"
                )
            with safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- not a mapping
        except (OSError, SafetensorError, RuntimeError, TypeError, ValueError) as error:
            raise IndexStoreError(f"{path} cannot be read ({type(error).__name__}: {error}). {REBUILD_HINT}") from error
        check_shard(
            path,
            tensors,
            shard,
            self._probe,
            precision=self.precision,
            longest=self._manifest["identity"]["max_length"],
            fit=self._fit,
        )
        block = Block({name: _part(tensors, name, self._device) for name in self._probe})
        self._check_model(tensors, exact=self._exact and shard["exact"])
        self._held.update(_shelved(tensors, block))

    def _check_model(self, tensors: Mapping[str, torch.Tensor], *, exact: bool) -> None:
        limit = _SAME if exact else _ALIKE
        for name, own in self._probe.items():
            there = tensors.get(PROBE + name)
            alike = there is not None and there.is_floating_point() == own.is_floating_point()
            if there is not None and alike and there.shape == own.shape:
                here = own.float().cpu().reshape(len(own), -1)
                apart = (there.float().reshape(len(own), -1) - here).norm(dim=-1)
                if float(apart.max()) <= limit * max(1.0, float(here.norm(dim=-1).max())):
                    continue
            raise IndexStoreError(
                f"{str(self._directory)!r} was made by another model: a text that both read has other {name}. Load the "
                "one that made it, or make another index"
            )


def _written(texts: Mapping[bytes, StoredText], rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """What is known of the texts, as tensors."""
    windows = [window for shelved in texts.values() for window in shelved.windows]
    return {
        OWN + "digests": torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8).view(len(texts), -1),
        OWN + "counts": torch.tensor([len(shelved.windows) for shelved in texts.values()]),
        OWN + "truncated": torch.tensor([shelved.truncated for shelved in texts.values()]),
        OWN + "windows": torch.tensor([[*w.tokens, *w.chars, row] for w, row in zip(windows, rows, strict=True)]),
    }


def _shelved(tensors: Mapping[str, torch.Tensor], block: Block) -> Iterator[tuple[bytes, StoredText]]:
    digests, counts, truncated, windows = (
        tensors[OWN + name] for name in ("digests", "counts", "truncated", "windows")
    )
    found = iter(windows.tolist())
    whole = digests.numpy()
    for place, (count, cut) in enumerate(zip(counts.tolist(), truncated.tolist(), strict=True)):
        own = []
        for _ in range(count):
            start, stop, first, last, row = next(found)
            own.append(StoredWindow((start, stop), (first, last), RowRef(block, row)))
        yield whole[place].tobytes(), StoredText(own, cut)


def _part(tensors: Mapping[str, torch.Tensor], name: str, device: torch.device) -> BlockPart:
    coding = None
    if f"{name}.codes" in tensors:
        coding = residual_coding.Coding(*(tensors[f"{name}.{key}"] for key in ("centroids", "codes", "scales")))
    return BlockPart(tensors[name], tensors[f"{name}.bounds"], coding, device)
