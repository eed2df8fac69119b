"""Expands paths and glob patterns to files, and gives each file a short name for messages."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from rerank_core.errors import InputError, short
from rerank_core.records.record_files import SUFFIXES, format_from_name
from rerank_core.records.text.streams import COMPRESSION_SUFFIXES

__all__ = ["expand_paths", "short_names"]


def expand_paths(paths: Sequence[str | Path]) -> list[Path]:
    """Expand paths and patterns such as ``kd/*.jsonl`` or ``**`` to files; the matches of a pattern are sorted.

    Raises:
        InputError: ``paths`` is a string or empty, a file does not exist or is named twice, a pattern matches no file,
            or the suffix of a file is unknown.
    """
    if isinstance(paths, (str, Path)):
        raise InputError(f"paths is {str(paths)!r}; it must be a list of paths")
    files: list[Path] = []
    for named in paths:
        path = Path(named)
        if str(named) == "-":
            raise InputError("'-' is stdin, and rows are read more than once; write it to a file")
        if glob.has_magic(str(named)) and not os.path.exists(path):
            matches = [Path(match) for match in sorted(glob.glob(str(named), recursive=True)) if os.path.isfile(match)]
            if not matches:
                raise InputError(f"no file matches {str(named)!r}")
            files.extend(matches)
        # os.path instead of Path, whose methods raise for a name that is too long.
        elif os.path.isfile(path):
            files.append(path)
        elif os.path.isdir(path):
            raise InputError(f"{str(named)!r} is a folder; name its files, such as FOLDER/*.jsonl")
        elif os.path.exists(path):
            raise InputError(
                f"{str(named)!r} is a pipe or device, and rows are read more than once; write it to a file"
            )
        else:
            raise InputError(f"{short(str(named))} does not exist; correct the path")
    if not files:
        raise InputError("no files are named; name at least one")
    seen: set[Path] = set()
    for path in files:
        form, suffix = format_from_name(path.name)
        if form is None and suffix not in ("", ".txt"):
            known = ", ".join([*SUFFIXES, *COMPRESSION_SUFFIXES])
            raise InputError(
                f"{path.name!r} has none of the suffixes {known}; rename it by its format, or write it in one of these"
            )
        if path.resolve() in seen:
            raise InputError(
                f"{str(path)!r} is named twice; name it once, and to train on it more often set train.epochs"
            )
        seen.add(path.resolve())
    return files


def short_names(paths: Sequence[Path]) -> list[str]:
    """A short unique name for each file: its file name, with as many parent folders as distinguish it from the others.

    >>> short_names([Path("/x/a/train.jsonl"), Path("/x/b/train.jsonl"), Path("/x/dev.jsonl")])
    ['a/train.jsonl', 'b/train.jsonl', 'dev.jsonl']
    """
    parts = [path.absolute().parts for path in paths]
    names: list[str] = []
    for path_parts in parts:
        length = 1
        while sum(other[-length:] == path_parts[-length:] for other in parts) > 1 and length < len(path_parts):
            length += 1
        names.append("/".join(path_parts[-length:]))
    return names
