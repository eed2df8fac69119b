"""The safetensors of a checkpoint, whole or in shards: which files they are, and single tensors out of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.reranker_json import inside
from rerank_core.spec.untrusted_files import read_json

__all__ = ["check_weights", "names_of", "rows_of", "tensors_of", "weight_files"]

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Of quantized weights; read as floats they would be other numbers.
_PACKED = ("I8", "U8", "I4", "U4", "F4", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I16", "U16", "I32", "U32")


def weight_files(directory: Path) -> dict[Path, frozenset[str]]:
    """The files with a checkpoint's weights and the tensors that each holds: ``model.safetensors``, or the shards that
    an index names; none where there is neither.

    Raises:
        CheckpointError: files that cannot be read, a shard outside the folder, or one that holds other tensors than the
            index says.
    """
    whole, index = directory / _WHOLE, directory / _INDEX
    if whole.is_file():
        return {whole: _held(whole)}
    if not index.is_file():
        return {}
    placed: dict[Path, set[str]] = {}
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        raise CheckpointError(f"{index}: weight_map is {short(listed)}; it must say in which file each tensor is")
    for name, file in listed.items():
        placed.setdefault(inside(directory, file, index), set()).add(name)
    found = {}
    for path, names in placed.items():
        if not path.is_file():
            raise CheckpointError(f"{index} names {path.name}, which is missing; download the checkpoint again")
        held = _held(path)
        if wrong := sorted(held ^ names):
            where = "lacks" if wrong[0] in names else "holds"
            raise CheckpointError(
                f"{path} {where} {wrong[0]!r}, and {_INDEX} says otherwise ({len(wrong)} tensors in all); the files do "
                "not belong together"
            )
        found[path] = held
    return found


def check_weights(directory: Path, *, quantized: bool = False) -> bool:
    """Whether a checkpoint has weights in safetensors, and nothing that would be read in their place.

    Args:
        quantized: its config.json says so.

    Raises:
        CheckpointError: weights that are quantized or laid out for another reader, and what `weight_files` raises.
    """
    if shard := next(directory.glob("shard-*.safetensors"), None):
        raise CheckpointError(
            f"{directory} holds {shard.name}, a part of a distributed checkpoint; save the model with save_pretrained"
        )
    files = weight_files(directory)
    for path, names in () if quantized else files.items():
        with _opened(path) as tensors:
            for name in names:
                kind = tensors.get_slice(name).get_dtype()
                if kind in _PACKED and name.endswith("weight"):
                    raise CheckpointError(
                        f"{path}: {name!r} is {kind}, as quantized weights are; give the checkpoint that is not "
                        "quantized, and load it with dtype='int8' where it must be small"
                    )
    return bool(files)


def names_of(directory: Path) -> set[str]:
    """The tensors that a checkpoint holds.

    Raises:
        CheckpointError: files that cannot be read.
    """
    return {name for names in weight_files(directory).values() for name in names}


def tensors_of(directory: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Those of the named tensors that a checkpoint holds.

    Raises:
        CheckpointError: files that cannot be read.
    """
    found = {}
    for file, held in weight_files(directory).items():
        wanted = [name for name in names if name in held]
        if wanted:
            with _opened(file) as tensors:
                found.update({name: tensors.get_tensor(name) for name in wanted})
    return found


def rows_of(directory: Path, name: str, rows: Sequence[int]) -> torch.Tensor | None:
    """Some rows of a matrix, ``[len(rows), width]``; None where the checkpoint has no such tensor.

    Raises:
        CheckpointError: files that cannot be read, or a matrix with fewer rows.
    """
    for file, held in weight_files(directory).items():
        if name not in held:
            continue
        with _opened(file) as tensors:
            whole = tensors.get_slice(name)
            if max(rows) >= whole.get_shape()[0]:
                raise CheckpointError(f"{directory}: {name} is {whole.get_shape()}, and row {max(rows)} is needed")
            return torch.cat([whole[row : row + 1] for row in rows])
    return None


def _held(file: Path) -> frozenset[str]:
    with _opened(file) as tensors:
        return frozenset(tensors.keys())


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file.parent} cannot be loaded: {file.name} cannot be read: {error}") from error
