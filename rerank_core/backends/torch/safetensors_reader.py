"""Reads the weights of a checkpoint, safetensors (one file or shards) or GGUF: lists tensors and loads some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.gguf.folder import gguf_tensors
from rerank_core.backends.torch.gguf_reader import read_rows, read_tensor
from rerank_core.errors import CheckpointError, short
from rerank_core.spec.reranker_json import inside
from rerank_core.spec.untrusted_files import read_json

__all__ = ["check_weights", "count_weights", "names_of", "rows_of", "tensors_of", "weight_files"]

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# Dtypes of quantized weights, which converted to floats would be wrong values.
_PACKED = ("I8", "U8", "I4", "U4", "F4", "F8_E4M3", "F8_E5M2", "F8_E8M0", "I16", "U16", "I32", "U32")


def weight_files(directory: Path) -> dict[Path, frozenset[str]]:
    """The weight files of a checkpoint and the tensor names in each: ``model.safetensors``, or the shards of the index;
    empty if there is neither.

    Raises:
        CheckpointError: files that cannot be read, a shard outside the folder, or a shard whose tensors differ from the
            index.
    """
    whole, index = directory / _WHOLE, directory / _INDEX
    if whole.is_file():
        return {whole: _names_in(whole)}
    if not index.is_file():
        return {}
    shards: dict[Path, set[str]] = {}
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, Mapping) or not listed:
        raise CheckpointError(f"{index}: weight_map is {short(listed)}; it must say in which file each tensor is")
    for name, file in listed.items():
        shards.setdefault(inside(directory, file, index), set()).add(name)
    files = {}
    for path, names in shards.items():
        if not path.is_file():
            raise CheckpointError(f"{index} names {path.name}, which is missing; download the checkpoint again")
        present = _names_in(path)
        if wrong := sorted(present ^ names):
            verb = "lacks" if wrong[0] in names else "holds"
            raise CheckpointError(
                f"{path} {verb} {wrong[0]!r}, and {_INDEX} says otherwise ({len(wrong)} tensors in all); the files do "
                "not belong together"
            )
        files[path] = present
    return files


def check_weights(directory: Path, *, quantized: bool = False) -> bool:
    """Whether a checkpoint has weights in safetensors files, or in a GGUF file.

    Args:
        quantized: config.json has a supported ``quantization_config``, so quantized weights are expected.

    Raises:
        CheckpointError: unexpected quantized weights, a distributed checkpoint, and the errors of `weight_files`.
    """
    if shard := next(directory.glob("shard-*.safetensors"), None):
        raise CheckpointError(
            f"{directory} holds {shard.name}, a part of a distributed checkpoint; save the model with save_pretrained"
        )
    if gguf_tensors(directory) is not None:
        return True
    files = weight_files(directory)
    for path, names in () if quantized else files.items():
        with _opened(path) as tensors:
            for name in names:
                dtype = tensors.get_slice(name).get_dtype()
                if dtype in _PACKED and name.endswith("weight"):
                    raise CheckpointError(
                        f"{path}: {name!r} is {dtype}, a dtype of quantized weights; give the checkpoint that is not "
                        "quantized, and load it with dtype='int8' to save memory"
                    )
    return bool(files)


def names_of(directory: Path) -> set[str]:
    """The names of all tensors of a checkpoint.

    Raises:
        CheckpointError: files that cannot be read.
    """
    source = gguf_tensors(directory)
    if source is not None:
        return set(source.tensors)
    return {name for names in weight_files(directory).values() for name in names}


def count_weights(directory: Path) -> int:
    """The number of weights in the files of a checkpoint; 0 where it has none.

    Raises:
        CheckpointError: files that cannot be read.
    """
    source = gguf_tensors(directory)
    if source is not None:
        return sum(prod(stored.shape) for stored in source.tensors.values())
    total = 0
    for file, names in weight_files(directory).items():
        with _opened(file) as tensors:
            total += sum(prod(tensors.get_slice(name).get_shape()) for name in names)
    return total


def tensors_of(directory: Path, names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint by name; names that it does not have are left out.

    Raises:
        CheckpointError: files that cannot be read.
    """
    source = gguf_tensors(directory)
    if source is not None:
        present_names = [name for name in names if name in source.tensors]
        return {name: read_tensor(source.file, source.tensors[name], torch.float32) for name in present_names}
    loaded = {}
    for file, present in weight_files(directory).items():
        wanted = [name for name in names if name in present]
        if wanted:
            with _opened(file) as tensors:
                loaded.update({name: tensors.get_tensor(name) for name in wanted})
    return loaded


def rows_of(directory: Path, name: str, rows: Sequence[int]) -> torch.Tensor | None:
    """Some rows of a matrix, ``[len(rows), width]``; None if the checkpoint does not have the tensor.

    Raises:
        CheckpointError: files that cannot be read, or a matrix with fewer rows.
    """
    source = gguf_tensors(directory)
    if source is not None:
        stored = source.tensors.get(name)
        if stored is not None and max(rows) >= stored.shape[0]:
            raise CheckpointError(f"{source.file}: {name} is {list(stored.shape)}, and row {max(rows)} is needed")
        return None if stored is None else read_rows(source.file, stored, rows)
    for file, present in weight_files(directory).items():
        if name not in present:
            continue
        with _opened(file) as tensors:
            whole = tensors.get_slice(name)
            if max(rows) >= whole.get_shape()[0]:
                raise CheckpointError(f"{directory}: {name} is {whole.get_shape()}, and row {max(rows)} is needed")
            return torch.cat([whole[row : row + 1] for row in rows])
    return None


def _names_in(file: Path) -> frozenset[str]:
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
