"""The files that a model is read from: noted while it is loaded, and their digests when they are asked for."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core.errors import CheckpointError
from rerank_core.spec import ModelSpec
from rerank_core.spec.untrusted_files import reason, sha256_of

__all__ = ["SourceFiles", "digests", "note", "noted"]

# The files that change scores. Not README files, logs or results beside them; reranker.json is in the spec.
_READ = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.jinja",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "artifact.metadata",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "colbert_linear.pt",
    "sparse_linear.pt",
)
_DEPTH = 2
_PICKLED = "pytorch_model*.bin"
# Copies of the model for other engines, earlier steps of a training, and caches.
_OTHER_FOLDERS = re.compile(r"onnx|openvino|checkpoint-\d+|__pycache__|\..*")
# Settings of these files that say where the model was, which differs between machines with the same model.
_SETTINGS = ("config.json", "tokenizer_config.json", "adapter_config.json")
_PLACES = ("_name_or_path", "name_or_path", "base_model_name_or_path", "revision")


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when the model was loaded.

    Attributes:
        name: the path inside the model's folder, with ``/``.
        mark: what a changed file differs in: inode, bytes and time of the last change in nanoseconds.
    """

    name: str
    path: Path
    mark: tuple[int, int, int]


SourceFiles: TypeAlias = Mapping[Path, Sequence[SourceFile]]
"""By folder or GGUF file, the files that a model is read from."""

_noted: ContextVar[dict[Path, list[SourceFile]] | None] = ContextVar("rerank_core_source_files", default=None)
_digests: dict[tuple[Path, tuple[int, int, int]], str] = {}


@contextmanager
def noted() -> Iterator[SourceFiles]:
    """Collect the files of each folder that `note` is called with inside the block, in this thread."""
    folders: dict[Path, list[SourceFile]] = {}
    token = _noted.set(folders)
    try:
        yield folders
    finally:
        _noted.reset(token)


def note(path: Path, spec: ModelSpec) -> None:
    """Note that the model of a spec is read from this folder or GGUF file. Called before it is read."""
    folders = _noted.get()
    path = path.absolute()
    if folders is None or path in folders:
        return
    if path.is_file():
        folders[path] = [SourceFile("model.gguf", path, _mark(path))]  # whatever it is called
    else:
        folders[path] = [SourceFile(name, path / name, _mark(path / name)) for name in sorted(_names(path, spec))]


def digests(folders: SourceFiles) -> list[dict[str, str]]:
    """The sha256 of each file by its name, for each folder that has files, in an order that does not depend on paths.

    Reads about 1.5 GB a second from the page cache. Digests of unchanged files are kept for the life of the process.

    Raises:
        CheckpointError: a file changed after the model was loaded from it.
    """
    found = [{file.name: _digest(file) for file in files} for files in folders.values() if files]
    return sorted(found, key=lambda files: json.dumps(files, sort_keys=True))


def _names(folder: Path, spec: ModelSpec) -> Iterator[str]:
    """The files that a folder's model is read from: those of known names, at most two folders deep, and those that the
    spec names."""
    patterns = (*_READ, _PICKLED) if spec.pickled else _READ
    vectors = spec.head.vectors if spec.head is not None else None
    named = {*spec.sha256, *(vectors.projection if vectors is not None else ())}
    for where, folders, files in os.walk(folder, followlinks=True):
        depth = len(Path(where).relative_to(folder).parts)
        folders[:] = [name for name in folders if depth < _DEPTH and not _OTHER_FOLDERS.fullmatch(name)]
        found = [name for name in files if any(fnmatchcase(name, pattern) for pattern in patterns)]
        named.update(Path(where, name).relative_to(folder).as_posix() for name in found)
    return (name for name in named if (folder / name).is_file())


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _digest(file: SourceFile) -> str:
    key = (file.path, file.mark)
    if key not in _digests:
        try:
            before = _mark(file.path)
            digest = _digest_of_settings(file.path) or sha256_of(file.path)
            unchanged = before == file.mark == _mark(file.path)
        except OSError as error:
            raise CheckpointError(f"{file.path} cannot be read any more: {reason(error)}") from error
        if not unchanged:
            raise CheckpointError(
                f"{file.path} changed after the model was loaded from it, so that it no longer identifies the model; "
                "load the model again"
            )
        _digests[key] = digest
    return _digests[key]


def _digest_of_settings(path: Path) -> str | None:
    """The digest of a settings file without the places where the model was; None for any other file."""
    if path.name not in _SETTINGS:
        return None
    try:
        settings: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(settings, dict):
        return None
    import hashlib  # takes 15 ms, and importing rerank_core does not need it

    kept = {name: value for name, value in settings.items() if name not in _PLACES}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
