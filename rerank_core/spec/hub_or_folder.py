"""Distinguishes directories from hub ids by one rule for `load`, ``checkpoint=``, the command line and the trainers.

Whether a string is the name of a model is decided by the registry.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import CheckpointError, InputError, short

__all__ = [
    "SUFFIX",
    "Remote",
    "directory_of",
    "file_path_of",
    "hub_name_of",
    "is_hub_id",
    "is_path",
    "model_name_of",
    "remote_of",
    "text_of",
]

# `./x`, `../x`, `/x`, `~/x`, and on Windows also `.\x`, `\\server\x` and `C:\x`.
_PATH = re.compile(r"\.{1,2}(?:$|[/\\])|[/\\~]|[A-Za-z]:[/\\]")
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
_HUB_ID_CHARACTERS = 96
SUFFIX = ".gguf"
_MODELSCOPE = "modelscope:"
# The longest names and paths that the file systems of Linux, macOS and Windows allow.
_NAME_BYTES, _PATH_BYTES = 255, 4095


@dataclass(frozen=True)
class Remote:
    """A model, or one GGUF file of it, that a string names on a hub.

    Attributes:
        name: the string.
        id: ``owner/name`` of the model.
        file: path of the GGUF file in the repository; None for the whole model.
        on_modelscope: whether it is on ModelScope, not on the hub of Hugging Face.
    """

    name: str
    id: str
    file: str | None
    on_modelscope: bool


def is_path(text: str) -> bool:
    """Whether a string is written as a path, so that it can only name a directory.

    >>> [is_path(text) for text in ("./BAAI/bge", "~/bge", "C:/models/bge", "BAAI/bge", "bge")]
    [True, True, True, False, False]
    """
    return _PATH.match(text) is not None


def is_hub_id(text: str) -> bool:
    """Whether a string is a hub id, ``owner/name``, by the rules of the Hugging Face hub.

    >>> [is_hub_id(text) for text in ("BAAI/bge-m3", "bge-m3", "./bge-m3", "BAAI/bge/m3", "BAAI/bge--m3")]
    [True, False, False, False, False]
    """
    return len(text) <= _HUB_ID_CHARACTERS and _HUB_ID.fullmatch(text) is not None


def remote_of(text: str) -> Remote | None:
    """The model or file of a hub that a string names, which need not exist; None for any other string.

    ``owner/name`` and ``owner/name/file.gguf`` are on the hub of Hugging Face, ``modelscope:owner/name`` and
    ``modelscope:owner/name/file.gguf`` on ModelScope.

    >>> remote_of("modelscope:Qwen/Qwen3-Reranker-0.6B").id
    'Qwen/Qwen3-Reranker-0.6B'
    >>> remote_of("Qwen/Qwen3-Reranker-0.6B-GGUF/q8/model.gguf").file
    'q8/model.gguf'
    >>> remote_of("./BAAI/bge-m3") is None
    True
    """
    path = text.removeprefix(_MODELSCOPE)
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    model = f"{owner}/{name}"
    if not is_hub_id(model) or (path != model and not _is_inside(file)):
        return None
    return Remote(text, model, file or None, on_modelscope=path != text)


def _is_inside(file: str) -> bool:
    """Whether a string is the path of a GGUF file inside a repository."""
    parts = file.split("/")
    return file.endswith(SUFFIX) and not any(p in ("", ".", "..") or "\\" in p or ":" in p for p in parts)


def text_of(source: object, what: str) -> str:
    """A model source as a string. A path object becomes an absolute path, so that it can only name a directory.

    Args:
        what: the source's name in a message, such as "the model".

    Raises:
        InputError: ``source`` is neither a string nor a path.
    """
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        if isinstance(path, str):
            return os.path.abspath(os.path.expanduser(path))
    elif isinstance(source, str):
        return source
    raise InputError(
        f"{what} is {short(source)}; it must be a name, a hub id, a directory or a .gguf file, as a string or a path"
    )


def file_path_of(path: object, what: str) -> str:
    """A path as a string, whether or not a file exists there.

    Raises:
        InputError: ``path`` is neither a string nor a path, or no file system allows such a path.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text:
        raise InputError(f"{what} is {short(path)}; it must be a string or a path")
    try:
        name = os.fsencode(text)
        impossible = b"\0" in name or len(name) > _PATH_BYTES or max(map(len, name.split(b"/"))) > _NAME_BYTES
    except UnicodeEncodeError:
        impossible = True
    if impossible:
        raise InputError(f"{what} is {short(text)}, which no file can be called")
    return text


def directory_of(text: str) -> Path | None:
    """The directory or GGUF file that a string names; None where there is none and the string may be a model's name.

    Raises:
        CheckpointError: the string is written as a path, and no such directory or GGUF file exists.
    """
    # os.path, because Path.is_dir() raises for a name that is too long.
    path = os.path.expanduser(text)
    if os.path.isdir(path) or (path.endswith(SUFFIX) and os.path.isfile(path)):
        return Path(path)
    if is_path(text):
        hint = "; it is a file: give the folder that it is in" if os.path.isfile(path) else ""
        raise CheckpointError(
            f"{short(text)} is written as a path, so it must be a directory or a {SUFFIX} file, and there is no such "
            f"{'file' if path.endswith(SUFFIX) else 'directory'}{hint}"
        )
    return None


def hub_name_of(directory: str | os.PathLike[str]) -> str | None:
    """The hub id of a snapshot directory in the hub's cache; None for any other directory.

    >>> hub_name_of("/cache/hub/models--BAAI--bge-m3/snapshots/5617a9f61b028005a4858fdac845db406aefb181")
    'BAAI/bge-m3'
    """
    folders = Path(directory).resolve().parent
    hub_id = folders.parent.name.removeprefix("models--").replace("--", "/")
    return hub_id if folders.name == "snapshots" and is_hub_id(hub_id) else None


def model_name_of(directory: str | os.PathLike[str]) -> str:
    """The name of a model whose files give it none: its hub id, or the name of its directory in kebab-case."""
    path = Path(directory).resolve()
    if path.parent.name == "snapshots":  # the hub's cache names these folders by commits
        path = path.parent.parent
    name = re.sub(r"[^a-z0-9]+", "-", path.name.removeprefix("models--").lower()).strip("-")
    return hub_name_of(directory) or name or "checkpoint"
