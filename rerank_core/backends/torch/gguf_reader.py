"""Reads the tensors of a GGUF file by transformers' names, converted to floats part by part, so that little more than
the result is in memory. The arithmetic of quantized types is that of llama.cpp's package ``gguf``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rerank_core.backends.gguf.folder import GgufTensors
from rerank_core.backends.gguf.tensor_names import StoredTensor
from rerank_core.errors import CheckpointError
from rerank_core.spec.gguf.header import TensorInfo
from rerank_core.spec.untrusted_files import reading

__all__ = ["LazyTensor", "lazy_tensors", "read_rows", "read_tensor"]

# Weights that are converted at once: their float32 values and the steps between take about 100 MB.
_AT_ONCE = 1 << 22
_FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class LazyTensor:
    """A tensor that is read when it is indexed with ``...``, as transformers does with safetensors' slices."""

    def __init__(self, file: Path, stored: StoredTensor, dtype: torch.dtype) -> None:
        self._file, self._stored, self._dtype = file, stored, dtype

    def get_shape(self) -> list[int]:
        return list(self._stored.shape)

    def __getitem__(self, index: Any) -> torch.Tensor:
        return read_tensor(self._file, self._stored, self._dtype)[index]


def lazy_tensors(source: GgufTensors, dtype: torch.dtype) -> dict[str, LazyTensor]:
    """All tensors that are whole in the file, to be read in a dtype one by one."""
    whole = {name: stored for name, stored in source.tensors.items() if stored.only is None}
    return {name: LazyTensor(source.file, stored, dtype) for name, stored in whole.items()}


def read_tensor(file: Path, stored: StoredTensor, dtype: torch.dtype) -> torch.Tensor:
    """A tensor of a checkpoint, as it was before llama.cpp's converter changed it.

    Raises:
        CheckpointError: the file has only some of its rows, or was changed since its header was read.
    """
    if stored.only is not None:
        raise CheckpointError(f"{file} holds only the rows {list(stored.only)} of an output layer")
    info, padding = stored.info, stored.padding
    result = torch.zeros((info.rows + padding, info.shape[-1]), dtype=dtype)
    step = max(1, _AT_ONCE // info.shape[-1])
    with reading(file, "cannot be read"), file.open("rb") as stream:
        for start in range(0, info.rows, step):
            count = min(step, info.rows - start)
            stream.seek(info.offset + start * info.row_bytes)
            part = _floats(stream.read(count * info.row_bytes), info, count)
            result[padding + start : padding + start + count] = part.float() + stored.shift if stored.shift else part
    if stored.heads:
        result = _in_order(result, stored.heads)
    return result.reshape(stored.shape)


def read_rows(file: Path, stored: StoredTensor, rows: Sequence[int]) -> torch.Tensor:
    """Rows of a matrix in float32, ``[len(rows), width]``.

    Raises:
        CheckpointError: the file does not have one of them.
    """
    if stored.only is not None and (missing := set(rows) - set(stored.only)):
        raise CheckpointError(
            f"{file} holds the output rows of the tokens {list(stored.only)} alone, not that of {min(missing)}: it is "
            "a reranker with two labels. Load it by itself, or give a file with the whole output layer"
        )
    if stored.heads or stored.padding or stored.shift:
        return read_tensor(file, stored, torch.float32)[list(rows)]
    info, parts = stored.info, []
    with reading(file, "cannot be read"), file.open("rb") as stream:
        for row in rows:
            place = row if stored.only is None else stored.only.index(row)
            stream.seek(info.offset + place * info.row_bytes)
            parts.append(_floats(stream.read(info.row_bytes), info, 1).float())
    return torch.cat(parts)


def _floats(data: bytes, info: TensorInfo, rows: int) -> torch.Tensor:
    """The weights of some rows ``[rows, width]``, in float32 or in the half precision of the file."""
    if len(data) != rows * info.row_bytes:
        raise CheckpointError("the file was cut or changed after it was opened")
    if info.type in _FLOATS:
        return torch.frombuffer(bytearray(data), dtype=_FLOATS[info.type]).reshape(rows, info.shape[-1])
    import numpy as np
    from gguf import GGMLQuantizationType, dequantize

    blocks = np.frombuffer(data, dtype=np.uint8).reshape(rows, info.row_bytes)
    with np.errstate(all="ignore"):  # scales that overflow become infinite, which is refused with the weights
        return torch.from_numpy(dequantize(blocks, GGMLQuantizationType(info.number)))


def _in_order(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Undo the order of Llama's queries and keys: llama.cpp rotates neighbouring numbers of a head, transformers the
    number at ``i`` with the one at ``i + half``."""
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, half, 2, math.prod(rows.shape[1:])).transpose(1, 2).reshape(rows.shape)
