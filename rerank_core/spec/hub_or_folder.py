"""What a string or path stands for: a directory, a hub id, or neither. One rule for `load`, ``checkpoint=``, the
command line and the trainers; which names are models' is the registry's to say.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from rerank_core.errors import CheckpointError, InputError, short

__all__ = ["directory_of", "file_path_of", "hub_name_of", "is_hub_id", "is_path", "model_name_of", "text_of"]

# `./x`, `../x`, `/x`, `~/x`, and on Windows also `.\x`, `\\server\x` and `C:\x`.
_PATH = re.compile(r"\.{1,2}(?:$|[/\\])|[/\\~]|[A-Za-z]:[/\\]")
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))\w(?:[\w.-]*\w)?/\w(?:[\w.-]*\w)?", re.ASCII)
_HUB_ID_CHARACTERS = 96
# What the file systems of Linux, macOS and Windows hold at most.
_NAME_BYTES, _PATH_BYTES = 255, 4095


def is_path(text: str) -> bool:
    """Whether a string is written as a path, and so names a directory and nothing else.

    >>> [is_path(text) for text in ("./BAAI/bge", "~/bge", "C:/models/bge", "BAAI/bge", "bge")]
    [True, True, True, False, False]
    """
    return _PATH.match(text) is not None


def is_hub_id(text: str) -> bool:
    """Whether a string is written as an id of the hub, ``owner/name`` by the hub's own rules.

    >>> [is_hub_id(text) for text in ("BAAI/bge-m3", "bge-m3", "./bge-m3", "BAAI/bge/m3", "BAAI/bge--m3")]
    [True, False, False, False, False]
    """
    return len(text) <= _HUB_ID_CHARACTERS and _HUB_ID.fullmatch(text) is not None


def text_of(source: object, what: str) -> str:
    """A source as one string. A path becomes absolute, so that it still names a directory and nothing else.

    Args:
        what: how a message names it, as in "the model".

    Raises:
        InputError: neither a string nor a path.
    """
    if isinstance(source, os.PathLike):
        path = os.fspath(source)
        if isinstance(path, str):
            return os.path.abspath(os.path.expanduser(path))
    elif isinstance(source, str):
        return source
    raise InputError(f"{what} is {short(source)}; it must be a name, a hub id or a directory, as a string or a path")


def file_path_of(path: object, what: str) -> str:
    """A place in the file system, whether or not something is there.

    Raises:
        InputError: neither a string nor a path, or one that no file system can have.
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
    """The directory that a string names; None where there is none and the string may be a name.

    Raises:
        CheckpointError: written as a path, and no directory is there.
    """
    # os.path, because Path.is_dir() raises for a name that is too long.
    place = os.path.expanduser(text)
    if os.path.isdir(place):
        return Path(place)
    if is_path(text):
        found = "; it is a file: give the folder that it is in" if os.path.isfile(place) else ""
        raise CheckpointError(
            f"{short(text)} is written as a path, so it must be a directory, and there is no such directory{found}"
        )
    return None


def hub_name_of(directory: str | os.PathLike[str]) -> str | None:
    """The hub id whose files a directory of the hub's cache holds; None for any other directory.

    >>> hub_name_of("/cache/hub/models--BAAI--bge-m3/snapshots/5617a9f61b028005a4858fdac845db406aefb181")
    'BAAI/bge-m3'
    """
    folders = Path(directory).resolve().parent
    hub_id = folders.parent.name.removeprefix("models--").replace("--", "/")
    return hub_id if folders.name == "snapshots" and is_hub_id(hub_id) else None


def model_name_of(directory: str | os.PathLike[str]) -> str:
    """What a model is called whose files give it no name: by its hub id, or by its directory."""
    place = Path(directory).resolve()
    if place.parent.name == "snapshots":  # of the hub's cache, whose folders are called by commits
        place = place.parent.parent
    own = re.sub(r"[^a-z0-9]+", "-", place.name.removeprefix("models--").lower()).strip("-")
    return hub_name_of(directory) or own or "checkpoint"
