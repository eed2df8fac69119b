"""A checkpoint folder for a GGUF file: ``config.json`` and tokenizer files in a temporary folder, and the names of the
file's tensors. All code that reads folders reads that folder; only code that reads tensors asks `gguf_tensors`.

The folder is written once a process for an unchanged file and removed when the process ends.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_core.backends.fork_safety import Lock
from rerank_core.backends.gguf.config import config_of
from rerank_core.backends.gguf.tensor_names import StoredTensor, tensors_of_header
from rerank_core.backends.gguf.tokenizer import tokenizer_files
from rerank_core.errors import CheckpointError, MissingDependencyError
from rerank_core.spec.gguf.header import GgufHeader, read_header
from rerank_core.spec.untrusted_files import reading

__all__ = ["GgufTensors", "gguf_tensors", "name_file", "prepared"]

_ROPE = "rope_freqs.weight"


@dataclass(frozen=True)
class GgufTensors:
    """A GGUF file and its tensors by transformers' names."""

    file: Path
    tensors: dict[str, StoredTensor]


_lock = Lock()
_folders: dict[tuple[object, ...], Path] = {}
_tensors: dict[Path, GgufTensors] = {}


def gguf_tensors(directory: Path) -> GgufTensors | None:
    """The tensors of a folder that `prepared` wrote; None for any other folder. A file in a folder cannot claim it."""
    return _tensors.get(directory)


def prepared(file: Path) -> Path:
    """A folder with the ``config.json`` and the tokenizer of a GGUF file; it is named like the file.

    Raises:
        CheckpointError: a damaged file, or a model that is not read from GGUF.
        MissingDependencyError: the package ``gguf``, which reads quantized weights, is not installed.
    """
    if importlib.util.find_spec("gguf") is None:
        raise MissingDependencyError(
            f"{file} is a GGUF file, which needs the package 'gguf': pip install 'rerank-core[gguf]'"
        )
    status = file.stat()
    mark = (str(file.resolve()), status.st_ino, status.st_size, status.st_mtime_ns)
    with _lock:
        if mark not in _folders or not _folders[mark].is_dir():
            folder, tensors = _written(file)
            _folders[mark] = folder
            _tensors[folder] = tensors
        return _folders[mark]


def name_file(error: Exception) -> None:
    """In an error's message, replace the temporary folder that `prepared` wrote by the GGUF file."""
    for folder, made_from in list(_tensors.items()):
        error.args = tuple(
            one.replace(str(folder), str(made_from.file)) if isinstance(one, str) else one for one in error.args
        )


def _written(file: Path) -> tuple[Path, GgufTensors]:
    with reading(file, inputs=False):
        header = read_header(file)
        config = config_of(header)
        tensors = tensors_of_header(
            header,
            config["model_type"],
            queries=config["num_attention_heads"],
            keys=config.get("num_key_value_heads", 0),
        )
        if _ROPE in header.tensors:
            _scale_positions(config, header)
        tokenizer, settings = tokenizer_files(header)
    root = Path(tempfile.mkdtemp(prefix="rerank-core-gguf-"))
    atexit.register(_remove, root, os.getpid())
    folder = root / file.name
    folder.mkdir()
    contents = {"config.json": config, "tokenizer.json": tokenizer, "tokenizer_config.json": settings}
    for name, values in contents.items():
        (folder / name).write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
    return folder, GgufTensors(file.resolve(), tensors)


def _scale_positions(config: dict[str, Any], header: GgufHeader) -> None:
    """Add Llama 3's factors of the rotary embedding, one for each frequency. transformers' ``longrope`` takes factors;
    those of short and of long texts are the same here.

    Raises:
        CheckpointError: factors that are not positive float32 numbers.
    """
    info, settings = header.tensors[_ROPE], config["rope_parameters"]
    with header.file.open("rb") as stream:
        stream.seek(info.offset)
        data = stream.read(info.row_bytes)
    if info.type != "F32" or len(data) != info.row_bytes or settings.get("rope_type") != "default":
        raise CheckpointError(f"{header.file}: {_ROPE!r} is {info.type} beside {settings!r}; it must be F32 and alone")
    factors = list(struct.unpack(f"<{len(data) // 4}f", data))
    if not all(0 < factor < float("inf") for factor in factors):
        raise CheckpointError(f"{header.file}: {_ROPE!r} must hold positive numbers")
    config["rope_parameters"] = {
        "rope_type": "longrope",
        "rope_theta": settings["rope_theta"],
        "short_factor": factors,
        "long_factor": factors,
        "factor": 1.0,
        "attention_factor": 1.0,
        "original_max_position_embeddings": config["max_position_embeddings"],
    }


def _remove(root: Path, process: int) -> None:
    """Remove a folder at the end of the process that wrote it; a forked child leaves it to its parent."""
    if os.getpid() == process:
        shutil.rmtree(root, ignore_errors=True)
