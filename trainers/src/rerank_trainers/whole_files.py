"""A file that is there whole or not at all: under a name of its own until it is written."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from rerank_core import InputError

__all__ = ["write_whole"]


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a file in one step; what is there stays until then, and where it fails.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    target = Path(path)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_text(text, encoding="utf-8")
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{str(target)!r} cannot be written: {error.strerror or error}; free space there, or name another folder"
        ) from error
