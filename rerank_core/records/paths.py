"""Which files are meant by paths and patterns, and how messages call them."""

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
    """The files that ``paths`` name, patterns such as ``kd/*.jsonl`` and ``**`` among them; matches are sorted.

    Raises:
        InputError: a bare string, no path, a file that is not there or is named twice, a pattern without a match, or a
            suffix that is no form's.
    """
    if isinstance(paths, (str, Path)):
        raise InputError(f"paths is {str(paths)!r}; it must be a list of paths")
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if str(given) == "-":
            raise InputError("'-' is stdin, and training reads its data more than once; write it to a file")
        if glob.has_magic(str(given)) and not os.path.exists(path):
            matches = [Path(match) for match in sorted(glob.glob(str(given), recursive=True)) if os.path.isfile(match)]
            if not matches:
                raise InputError(f"no file matches {str(given)!r}")
            found.extend(matches)
        # os.path, because those of Path raise for a name that is too long.
        elif os.path.isfile(path):
            found.append(path)
        elif os.path.isdir(path):
            raise InputError(f"{str(given)!r} is a folder; name its files, such as FOLDER/*.jsonl")
        elif os.path.exists(path):
            raise InputError(
                f"{str(given)!r} is a pipe or device, and training reads its data more than once; write it to a file"
            )
        else:
            raise InputError(f"{short(str(given))} is not there")
    if not found:
        raise InputError("no files are named")
    seen: set[Path] = set()
    for path in found:
        form, suffix = format_from_name(path.name)
        if form is None and suffix not in ("", ".txt"):
            known = ", ".join([*SUFFIXES, *COMPRESSION_SUFFIXES])
            raise InputError(f"{path.name!r} is none of {known}; name it by what it holds, or write it as one of them")
        if path.resolve() in seen:
            raise InputError(f"{str(path)!r} is named twice; to train on it more often, set train.epochs")
        seen.add(path.resolve())
    return found


def short_names(paths: Sequence[Path]) -> list[str]:
    """A short name for each file: its own, and as many folders before it as tell it from the others.

    >>> short_names([Path("/x/a/train.jsonl"), Path("/x/b/train.jsonl"), Path("/x/dev.jsonl")])
    ['a/train.jsonl', 'b/train.jsonl', 'dev.jsonl']
    """
    parts = [path.absolute().parts for path in paths]
    names: list[str] = []
    for own in parts:
        length = 1
        while sum(other[-length:] == own[-length:] for other in parts) > 1 and length < len(own):
            length += 1
        names.append("/".join(own[-length:]))
    return names
