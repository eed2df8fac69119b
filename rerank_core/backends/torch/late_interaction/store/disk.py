"""`DiskStore`: embeddings of an index in a folder that later processes open.

The folder holds shards (safetensors files, memory-mapped and never changed) and ``manifest.json``, which lists the
shards of the index and is replaced atomically: after a crash the index is in its state before the change.
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

from rerank_core.backends.torch.late_interaction import residual_coding
from rerank_core.backends.torch.late_interaction.embeddings import Block, BlockPart, Embedding, RowRef, compressed
from rerank_core.backends.torch.late_interaction.store.checks import PROBE, TEXTS, LengthCheck, check_shard
from rerank_core.backends.torch.late_interaction.store.files import (
    commit,
    delete_leftovers,
    leftovers,
    temporary_file,
    write_lock,
)
from rerank_core.backends.torch.late_interaction.store.manifest import MANIFEST, REBUILD_HINT, SCHEMA, manifest_of
from rerank_core.backends.torch.late_interaction.store.memory import Drift, block_of
from rerank_core.errors import IndexStoreError
from rerank_core.index.protocols import StoredText, StoredWindow
from rerank_core.spec.untrusted_files import sha256_of

__all__ = ["DiskStore"]

# The largest distance between two embeddings of the probe that rounding explains: where both models compute in float32,
# and where one does not.
_ROUNDING_FLOAT32, _ROUNDING = 1e-3, 5e-2


class DiskStore:
    """An `EmbeddingStore` in a folder; made by `open`."""

    def __init__(
        self,
        directory: Path,
        manifest: dict[str, Any],
        probe: Embedding,
        exact: bool,
        device: torch.device,
        length_check: LengthCheck,
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._probe = probe
        self._exact = exact
        self._device = device
        self._length_check = length_check
        self._texts: dict[bytes, StoredText] = {}
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
        length_check: LengthCheck,
    ) -> DiskStore:
        """The store in a folder; a new one where the folder is empty or missing.

        Args:
            probe: the embedding of a fixed text, by which the store recognises the model under any name.
            exact: the model computes in float32.
            length_check: see `check_shard`.

        Raises:
            IndexStoreError: damaged files, another model, other settings or another precision, or a path that the
                operating system refuses.
        """
        try:
            store = cls._opened(Path(directory), precision, identity, probe, exact, device, length_check)
            store._delete_leftovers()
        except OSError as error:
            raise IndexStoreError(f"{directory!r} cannot be opened as an index: {error}") from error
        return store

    @classmethod
    def _opened(
        cls,
        folder: Path,
        precision: str | None,
        identity: Mapping[str, Any],
        probe: Embedding,
        exact: bool,
        device: torch.device,
        length_check: LengthCheck,
    ) -> DiskStore:
        directory = str(folder)
        identity = json.loads(json.dumps(identity))
        if not (folder / MANIFEST).exists():
            # An interrupted first write leaves only files whose names begin with a dot.
            if folder.exists() and (not folder.is_dir() or any(file.name[0] != "." for file in folder.iterdir())):
                raise IndexStoreError(f"{directory!r} is no index and not empty; name a folder of its own")
            fresh = {"schema_version": SCHEMA, "identity": identity, "precision": precision or "float32", "shards": []}
            return cls(folder, fresh, probe, exact, device, length_check)
        manifest = manifest_of(folder / MANIFEST)
        if precision not in (None, manifest["precision"]):
            raise IndexStoreError(
                f"{directory!r} keeps embeddings in {manifest['precision']!r}, and precision is {precision!r}; leave "
                "it out, or make another index"
            )
        if manifest["identity"] != identity:
            keys = sorted({*identity, *manifest["identity"]})
            different = [key for key in keys if manifest["identity"].get(key) != identity.get(key)]
            details = "; ".join(
                f"{key}: {manifest['identity'].get(key)!r} there, {identity.get(key)!r} here" for key in different
            )
            raise IndexStoreError(
                f"{directory!r} was made by another model or with other settings ({details}); load the same, or make "
                "another index"
            )
        return cls(folder, manifest, probe, exact, device, length_check)

    @property
    def precision(self) -> str:
        return str(self._manifest["precision"])

    @property
    def drift(self) -> Mapping[str, float]:
        total = Drift()
        for shard in self._manifest["shards"]:
            total.add((*shard["drift"], shard["vectors"]))
        return total.summary if self.precision != "float32" else {}

    def find(self, digest: bytes) -> StoredText | None:
        return self._texts.get(digest)

    def add(self, texts: Mapping[bytes, StoredText]) -> None:
        """Write one shard, then the manifest that lists it."""
        block, rows = block_of(texts)
        block, (mean, maximum, vectors) = compressed(block, self.precision)
        tensors = {**_text_tensors(texts, rows), **{PROBE + name: part for name, part in self._probe.items()}}
        for name, part in block.parts.items():
            tensors[name], tensors[f"{name}.bounds"] = part.data, part.bounds
            if part.coding is not None:
                coding = {"centroids": part.coding.centroids, "codes": part.coding.codes, "scales": part.coding.scales}
                tensors.update({f"{name}.{key}": value for key, value in coding.items()})
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with write_lock(self._directory):
                # The manifest first: the folder is an index from now on, so `open` accepts it after an interruption.
                self._write_manifest(())
                with temporary_file(self._directory) as file:
                    file.touch()
                    mode = file.stat().st_mode  # the user's default; safetensors makes files private
                    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, str(file))
                    file.chmod(mode)
                    digest = sha256_of(file)
                    shard = {
                        "file": f"{digest[:16]}.safetensors", "sha256": digest, "bytes": file.stat().st_size,
                        "texts": len(texts), "vectors": vectors, "drift": [mean, maximum], "exact": self._exact,
                    }  # fmt: skip
                    commit(file, self._directory / f"{digest[:16]}.safetensors")
                self._write_manifest((shard,))
        except (OSError, SafetensorError) as error:
            raise IndexStoreError(
                f"{str(self._directory)!r} cannot be written: {error}. The index is as it was before"
            ) from error
        self._read(shard)

    def _delete_leftovers(self) -> None:
        """Delete the files that killed writers left, unless another process is writing or the folder is read-only."""
        if not self._directory.is_dir() or not leftovers(self._directory, self._listed()):
            return
        with contextlib.suppress(OSError), write_lock(self._directory, wait=False):
            delete_leftovers(self._directory, self._listed())

    def _listed(self) -> set[str]:
        """The file names of the shards that the manifest lists now."""
        path = self._directory / MANIFEST
        return {str(shard["file"]) for shard in manifest_of(path)["shards"]} if path.exists() else set()

    def _write_manifest(self, shards: Sequence[Mapping[str, Any]]) -> None:
        """Add shards to the manifest as it is now: another process may have added shards since `open`."""
        path = self._directory / MANIFEST
        current = manifest_of(path) if path.exists() else None
        if current is not None and not shards:
            same = all(current[key] == self._manifest[key] for key in ("identity", "precision"))
            if not same:
                raise IndexStoreError(
                    f"{str(self._directory)!r} was replaced by another index meanwhile; name another folder"
                )
            return
        manifest = current or self._manifest
        manifest = {**manifest, "shards": [*manifest["shards"], *shards]}
        with temporary_file(self._directory) as file:
            file.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            commit(file, path)
        self._manifest = manifest

    def _read(self, shard: Mapping[str, Any]) -> None:
        """Check a shard, map it into memory and add its texts."""
        path = self._directory / str(shard["file"])
        try:
            if path.stat().st_size != shard["bytes"] or sha256_of(path) != shard["sha256"]:
                raise IndexStoreError(
                    f"{path} differs from its entry in {MANIFEST}; it is damaged or truncated. {REBUILD_HINT}"
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
            length_check=self._length_check,
        )
        block = Block({name: _part(tensors, name, self._device) for name in self._probe})
        self._check_model(tensors, exact=self._exact and shard["exact"])
        self._texts.update(_stored_texts(tensors, block))

    def _check_model(self, tensors: Mapping[str, torch.Tensor], *, exact: bool) -> None:
        """Compare the probe's embedding in a shard with this model's.

        Args:
            exact: both models compute in float32.
        """
        limit = _ROUNDING_FLOAT32 if exact else _ROUNDING
        for name, part in self._probe.items():
            stored = tensors.get(PROBE + name)
            same_kind = stored is not None and stored.is_floating_point() == part.is_floating_point()
            if stored is not None and same_kind and stored.shape == part.shape:
                expected = part.float().cpu().reshape(len(part), -1)
                distances = (stored.float().reshape(len(part), -1) - expected).norm(dim=-1)
                if float(distances.max()) <= limit * max(1.0, float(expected.norm(dim=-1).max())):
                    continue
            raise IndexStoreError(
                f"{str(self._directory)!r} was made by another model: a text that both read has other {name}. Load the "
                "one that made it, or make another index"
            )


def _text_tensors(texts: Mapping[bytes, StoredText], rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Digests, window counts, truncation and windows of the texts, as tensors."""
    windows = [window for text in texts.values() for window in text.windows]
    numbers = {
        "counts": [len(text.windows) for text in texts.values()],
        "truncated": [text.truncated for text in texts.values()],
        "windows": [[*w.tokens, *w.chars, row] for w, row in zip(windows, rows, strict=True)],
    }
    return {
        TEXTS + "digests": torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8).view(len(texts), -1),
        **{TEXTS + name: torch.tensor(values, device="cpu") for name, values in numbers.items()},
    }


def _stored_texts(tensors: Mapping[str, torch.Tensor], block: Block) -> Iterator[tuple[bytes, StoredText]]:
    """The texts of a shard by digest: `_text_tensors`, read back."""
    digests, counts, truncated, windows = (
        tensors[TEXTS + name] for name in ("digests", "counts", "truncated", "windows")
    )
    remaining = iter(windows.tolist())
    for digest, count, cut in zip(digests.numpy(), counts.tolist(), truncated.tolist(), strict=True):
        stored = []
        for _ in range(count):
            start, stop, first, last, row = next(remaining)
            stored.append(StoredWindow((start, stop), (first, last), RowRef(block, row)))
        yield digest.tobytes(), StoredText(stored, cut)


def _part(tensors: Mapping[str, torch.Tensor], name: str, device: torch.device) -> BlockPart:
    coding = None
    if f"{name}.codes" in tensors:
        coding = residual_coding.Coding(*(tensors[f"{name}.{key}"] for key in ("centroids", "codes", "scales")))
    return BlockPart(tensors[name], tensors[f"{name}.bounds"], coding, device)
