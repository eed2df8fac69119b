"""Atomic writes: files and folders are written under a temporary name and renamed when they are complete."""

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
    """Write a file atomically; an existing file stays until the new one is complete, and if writing fails.

    Raises:
        InputError: the disk is full, or the folder is not writable.
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
    """A temporary folder beside the target, on the same disk so that `replace_folder` is a rename.

    It is removed at the end of the block unless it was renamed. Temporary folders of killed processes are removed too.

    Raises:
        PublishError: the disk is full, or the folder is not writable.
    """
    folder = target.parent / f".{target.name}.{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(target)
        folder.mkdir()
        with _locked(folder):
            yield folder
    except (OSError, SafetensorError) as error:
        raise PublishError(
            f"{str(target)!r} cannot be written: {error}. Free space there, or publish elsewhere; nothing was published"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(folder: Path, target: Path) -> None:
    """Rename the folder to its target; an existing target stays until then."""
    if not target.exists():
        folder.rename(target)
        return
    old = target.parent / f".{target.name}.old-{secrets.token_hex(4)}"
    with _locked(target):
        target.rename(old)
        try:
            folder.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _remove_stale(target: Path) -> None:
    """Delete temporary folders of earlier calls that no process has locked. An old target that was renamed away gets
    its name back where no new one took its place."""
    if sys.platform == "win32":
        return  # folders cannot be locked there, so a folder of a running process would not be recognised
    temporary_name = re.compile(re.escape(f".{target.name}.") + r"(old-)?[0-9a-f]{8}")
    for folder in sorted(target.parent.iterdir()):
        match = temporary_name.fullmatch(folder.name)
        if match is None or not folder.is_dir():
            continue
        with contextlib.suppress(BlockingIOError), _locked(folder):
            if match[1] and not target.exists():  # the process was killed between the two renames
                folder.rename(target)
            else:
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder; the operating system releases the lock when the process ends, even if it is killed.

    Raises:
        BlockingIOError: another process has locked it.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
