"""Files and folders that are there whole or not at all: made under a name of their own, and renamed when complete."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from rerank_core import InputError
from rerank_trainers.errors import PublishError

__all__ = ["replace_folder", "staging_folder", "write_atomically"]


def write_atomically(path: str | os.PathLike[str], text: str) -> None:
    """Write a file in one step; what is there stays until then, and where it fails.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    target = Path(path)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{str(target)!r} cannot be written: {error.strerror or error}; free space there, or name another folder"
        ) from error


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """A folder beside the target, gone afterwards unless it was moved; on the same disk, so that moving is one step.
    What processes left there that were killed is deleted.

    Raises:
        PublishError: the disk is full, or the folder cannot be written to.
    """
    folder = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _collect(target)
        folder.mkdir()
        with _held(folder):
            yield folder
    except (OSError, SafetensorError) as error:
        raise PublishError(
            f"{str(target)!r} cannot be written: {error}. Free space there, or publish elsewhere; nothing was published"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(folder: Path, target: Path) -> None:
    """Rename the folder to its target; what stands there stays until then."""
    if not target.exists():
        folder.rename(target)
        return
    old = target.parent / f".{target.name}.old-{secrets.token_hex(4)}"
    with _held(target):
        target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _collect(target: Path) -> None:
    """Delete folders of earlier calls that nobody holds; one that was to be replaced is given its name again where
    nothing took it."""
    if sys.platform == "win32":
        return  # no folder can be locked there, so nobody knows whether another process is at work
    ours = re.compile(re.escape(f".{target.name}.") + r"(old-)?[0-9a-f]{8}")
    for folder in sorted(target.parent.iterdir()):
        found = ours.fullmatch(folder.name)
        if found is None or not folder.is_dir():
            continue
        with contextlib.suppress(BlockingIOError), _held(folder):
            if found[1] and not target.exists():  # killed between two renames
                folder.rename(target)
            else:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder: the lock goes with the process, however that ends.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(opened)
