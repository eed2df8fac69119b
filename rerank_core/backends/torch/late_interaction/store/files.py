"""Files of an index in a folder: written under a temporary name, renamed when complete, deleted if a writer died."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

__all__ = ["commit", "delete_leftovers", "leftovers", "temporary_file", "write_lock"]

# The names that `temporary_file` and `DiskStore.add` give. Files of other names are never deleted.
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp")
_SHARD = re.compile(r"[0-9a-f]{16}\.safetensors")


def write_lock(directory: Path, *, wait: bool = True) -> FileLock:
    """The lock that a writer of the folder holds from its first temporary file until the manifest is written.

    Args:
        wait: wait for another writer; False raises ``filelock.Timeout`` (an OSError) where there is one.
    """
    return FileLock(directory / ".lock", timeout=-1 if wait else 0)


@contextmanager
def temporary_file(directory: Path) -> Iterator[Path]:
    """A path to write a file to before `commit`; deleted at the end if it is still there."""
    file = directory / f".{uuid.uuid4().hex}.tmp"
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def commit(file: Path, path: Path) -> None:
    """Rename a complete file to its final path. After a power cut the path holds the whole new file or the old one."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    os.replace(file, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def leftovers(directory: Path, shards: Collection[str]) -> list[Path]:
    """Temporary files, and shard files that are not among ``shards``, the names in the manifest."""
    return [
        file
        for file in directory.iterdir()
        if _TEMPORARY.fullmatch(file.name) or (_SHARD.fullmatch(file.name) and file.name not in shards)
    ]


def delete_leftovers(directory: Path, shards: Collection[str]) -> None:
    """Delete the files that killed writers left. The caller holds the `write_lock`, so no file is being written."""
    for file in leftovers(directory, shards):
        file.unlink(missing_ok=True)
