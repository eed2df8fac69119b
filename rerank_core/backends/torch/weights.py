"""Single tensors out of a checkpoint's safetensors, whole or in shards, without loading the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from rerank_core.errors import CheckpointError
from rerank_core.spec_file import read_json

__all__ = ["names_of", "rows_of", "tensors_of"]

_INDEX = "model.safetensors.index.json"


def names_of(directory: Path) -> set[str]:
    """The tensors that a checkpoint holds.

    Raises:
        CheckpointError: files that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    found: set[str] = set()
    try:
        for file, held in _files(directory).items():
            if held is None:
                with safe_open(str(file), framework="pt") as tensors:
                    held = set(tensors.keys())
            found |= held
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory} cannot be read: {error}") from error
    return found


def tensors_of(directory: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Those of the named tensors that a checkpoint holds.

    Raises:
        CheckpointError: files that cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        for file, held in _files(directory).items():
            wanted = [name for name in names if held is None or name in held]
            if not wanted:
                continue
            with safe_open(str(file), framework="pt") as tensors:
                own = set(tensors.keys())
                found.update({name: tensors.get_tensor(name) for name in wanted if name in own})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory} cannot be read: {error}") from error
    return found


def rows_of(directory: Path, name: str, rows: Sequence[int]) -> torch.Tensor | None:
    """Some rows of a matrix, ``[len(rows), width]``; None where the checkpoint has no such tensor.

    Raises:
        CheckpointError: files that cannot be read, or a matrix with fewer rows.
    """
    from safetensors import SafetensorError, safe_open

    try:
        for file, held in _files(directory).items():
            if held is not None and name not in held:
                continue
            with safe_open(str(file), framework="pt") as tensors:
                if name not in tensors.keys():  # noqa: SIM118 -- not a mapping
                    continue
                whole = tensors.get_slice(name)
                if max(rows) >= whole.get_shape()[0]:
                    raise CheckpointError(f"{directory}: {name} is {whole.get_shape()}, and row {max(rows)} is needed")
                return torch.cat([whole[row : row + 1] for row in rows])
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{directory} cannot be read: {error}") from error
    return None


def _files(directory: Path) -> dict[Path, set[str] | None]:
    """The files with weights, and which names an index says each holds."""
    index = directory / _INDEX
    if not index.is_file():
        return dict.fromkeys(sorted(directory.glob("model*.safetensors")))
    placed: dict[Path, set[str]] = {}
    for name, file in read_json(index).get("weight_map", {}).items():
        placed.setdefault(directory / file, set()).add(name)
    return dict(placed)
