"""Finds the files of a BEIR folder, or of its zip archive."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rerank_core import InputError

__all__ = ["beir_files", "is_beir"]

_FORMATS = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet", ".tsv", ".csv")


def is_beir(path: str) -> bool:
    """Whether a path is read as BEIR: a folder, or a zip archive."""
    return Path(path).is_dir() or zipfile.is_zipfile(path) or Path(path).suffix.lower() == ".zip"


@contextmanager
def beir_files(path: str, split: str | None, have: frozenset[str]) -> Iterator[dict[str, Path]]:
    """The files ``docs``, ``queries`` and ``qrels`` of a folder; an archive's are unpacked until the context ends.

    Args:
        split: split of the judgements; by default ``test``, or the only one that there is.
        have: those of the three that the caller has already; they may be missing.

    Raises:
        InputError: a file is missing, or the split is not there.
    """
    if Path(path).is_dir():
        yield _files(Path(path), path, split, have)
        return
    with tempfile.TemporaryDirectory(prefix="rerank-eval-") as folder:
        _unpack(path, Path(folder))
        yield _files(Path(folder), path, split, have)


def _files(folder: Path, named: str, split: str | None, have: frozenset[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for key, stem in (("docs", "corpus"), ("queries", "queries")):
        found = [folder / f"{stem}{suffix}" for suffix in _FORMATS if (folder / f"{stem}{suffix}").is_file()]
        if len(found) > 1:
            raise InputError(f"{named!r} has {' and '.join(one.name for one in found)}; name one with {key}=")
        if not found and key not in have:
            raise InputError(
                f"{named!r} has no {stem}.jsonl, so it is no BEIR folder; name the file with {key}=, or files of rows "
                "as FOLDER/*.jsonl"
            )
        if found:
            files[key] = found[0]
    if "qrels" not in have:
        qrels = _qrels(folder, named, split)
        if qrels is not None:
            files["qrels"] = qrels
    return files


def _qrels(folder: Path, named: str, split: str | None) -> Path | None:
    """The file of judgements of a split; None where the folder has none and no split is asked for."""
    splits = {
        path.name.partition(".")[0]: path
        for path in sorted((folder / "qrels").glob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    if split is None:
        if not splits:
            return None
        split = "test" if "test" in splits else next(iter(splits)) if len(splits) == 1 else None
    if split not in splits:
        wish = "no split test" if split is None else f"no split {split!r}"
        raise InputError(f"{named!r} has {wish}; its splits are {', '.join(splits) or 'none'}: name one with split=")
    return splits[split]


def _unpack(archive: str, folder: Path) -> None:
    """Unpack the corpus, the queries and the judgements of an archive, which may have a folder around them."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {PurePosixPath(one.filename): one for one in opened.infolist() if not one.is_dir()}
            root = next(
                (
                    path.parent
                    for path in members
                    # macOS adds a folder with a file of metadata for each file.
                    if path.name.startswith("corpus.") and "__MACOSX" not in path.parts
                ),
                PurePosixPath(),
            )
            for path, member in members.items():
                # Only names are taken from the archive, never a path that may lead elsewhere.
                target = {root: folder, root / "qrels": folder / "qrels"}.get(path.parent)
                if target is not None and not path.name.startswith("."):
                    target.mkdir(exist_ok=True)
                    with opened.open(member) as source, (target / path.name).open("wb") as copy:
                        shutil.copyfileobj(source, copy)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise InputError(f"{archive!r} cannot be unpacked: {error}; copy or download it again") from error
