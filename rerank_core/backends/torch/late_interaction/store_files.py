"""Files of an index in a folder: each is there whole or not at all, and what a killed writer left is deleted."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

__all__ = ["collect", "left_behind", "settle", "unfinished", "writing"]

# What `unfinished` and `DiskStore.add` call their files; nothing else in a folder is ever deleted.
_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.tmp")
_SHARD = re.compile(r"[0-9a-f]{16}\.safetensors")


def writing(directory: Path, *, wait: bool = True) -> FileLock:
    """The lock that a writer of the folder holds from its first unfinished file to its manifest.

    Args:
        wait: for another writer; without it, ``filelock.Timeout`` (an OSError) where there is one.
    """
    return FileLock(directory / ".lock", timeout=-1 if wait else 0)


@contextmanager
def unfinished(directory: Path) -> Iterator[Path]:
    """A name for a file until it is whole; nothing of it is left if it never is."""
    file = directory / f".{uuid.uuid4().hex}.tmp"
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)


def settle(file: Path, path: Path) -> None:
    """Give a finished file its name, so that it is there whole or not at all, after a power cut too."""
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())
    os.replace(file, path)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def left_behind(directory: Path, counted: Collection[str]) -> list[Path]:
    """Unfinished files, and shards that are not among those ``counted``."""
    return [
        file
        for file in directory.iterdir()
        if _UNFINISHED.fullmatch(file.name) or (_SHARD.fullmatch(file.name) and file.name not in counted)
    ]


def collect(directory: Path, counted: Collection[str]) -> None:
    """Delete what writers left that were killed. The caller holds the lock, so no writer is at work."""
    for file in left_behind(directory, counted):
        file.unlink(missing_ok=True)
