"""`parse_source`: what one ``--data`` names.

Forms::

    dev.jsonl                       rows of any format that `rerank train` reads; a pattern such as kd/*.jsonl
    t2=dev.jsonl                    the same with a name for tables
    scifact=beir/scifact            a BEIR folder, or its .zip
    beir/scifact,split=dev          another split than test
    beir/scifact,run=splade.trec    candidates of a run instead of BM25
    dl19=queries=topics.tsv,docs=collection.tsv,qrels=qrels.txt,run=bm25.trec

After the path come ``key=value`` pairs, separated by commas. Without a path, ``queries`` and ``docs`` are needed.
"""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from rerank_core import InputError

__all__ = ["KEYS", "Source", "parse_source"]

KEYS: Mapping[str, str] = {
    "queries": "file of queries with ids",
    "docs": "file or pattern of documents with ids",
    "qrels": "judgements, in the format of TREC or BEIR",
    "run": "candidates and their scores, in the format of TREC",
    "split": "split of a BEIR folder; by default test",
    "candidates": "bm25: search all documents of the file, instead of ranking those of each row",
    "scores": "first-stage or gains: what the scores of rows are",
}
_VALUES = {"candidates": ("bm25",), "scores": ("first-stage", "gains")}
_SUFFIXES = {".gz", ".zst", ".zstd", ".bz2", ".xz", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab", ".txt"}
_SUFFIXES |= {".parquet", ".pq", ".zip", ".trec", ".run"}


@dataclass(frozen=True)
class Source:
    """One set of data by its files.

    Attributes:
        name: the given name, or one made from the name of the file or folder.
        path: file or pattern of rows, BEIR folder or zip; None where `queries` and `docs` are named.
        given: the keys and values after the path.
    """

    name: str
    path: str | None
    given: Mapping[str, str]

    def get(self, key: str) -> str | None:
        """The value of a key; None where it was not given."""
        return self.given.get(key)

    def file(self, key: str) -> Path | None:
        """The file that a key names; None where it was not given."""
        return None if self.get(key) is None else Path(self.given[key])

    def refuse(self, keys: tuple[str, ...], reason: str) -> None:
        """Raise InputError if one of the keys was given."""
        for key in keys:
            if key in self.given:
                raise InputError(f"data {self.name!r} has {key}={self.given[key]!r}; {reason}")


def parse_source(spec: str) -> Source:
    """Parse the value of ``--data``; the module's docstring lists the forms.

    >>> parse_source("dl19=queries=topics.tsv,docs=collection.tsv,run=bm25.trec")
    Source(name='dl19', path=None, given={'queries': 'topics.tsv', 'docs': 'collection.tsv', 'run': 'bm25.trec'})

    Raises:
        InputError: the value is blank, a key is unknown or given twice, or a path does not exist or is missing.
    """
    if not spec.strip():
        raise InputError("data is blank; name a file, such as dev.jsonl, or a BEIR folder")
    if _exists(spec):
        return Source(_name_of(spec), os.path.expanduser(spec), {})
    first, *others = spec.split(",")
    name, path, given = None, None, {}
    key, equals, value = first.partition("=")
    if equals and key not in KEYS and not _exists(first):
        name, first = key.strip(), value
        if not name:
            raise InputError(f"data {spec!r} has no name before '='; write NAME=PATH or PATH")
    if first.partition("=")[0] in KEYS and "=" in first:
        others.insert(0, first)
    else:
        path = first
    for item in others:
        key, equals, value = item.partition("=")
        if not equals or key not in KEYS:
            raise InputError(f"data {spec!r}: {item!r} is no KEY=VALUE{_near(key)}; the keys are {', '.join(KEYS)}")
        if key in given:
            raise InputError(f"data {spec!r} has {key}= twice; keep one")
        if not value or value not in _VALUES.get(key, (value,)):
            raise InputError(f"data {spec!r}: {key}={value!r} must be {' or '.join(_VALUES.get(key, ('a path',)))}")
        given[key] = value if key in _VALUES or key == "split" else os.path.expanduser(value)
    if path is None and not {"queries", "docs"} <= given.keys():
        raise InputError(f"data {spec!r} names no path; name one, or both queries= and docs=")
    if path is not None and not _exists(path):
        raise InputError(f"data {spec!r}: {path!r} does not exist{_near(path.partition('=')[0])}; correct the path")
    return Source(
        name or _name_of(path or given.get("run") or given["queries"]),
        None if path is None else os.path.expanduser(path),
        given,
    )


def _exists(path: str) -> bool:
    path = os.path.expanduser(path)
    return os.path.exists(path) or (glob.has_magic(path) and bool(glob.glob(path, recursive=True)))


def _near(key: str) -> str:
    near = difflib.get_close_matches(key, KEYS, 1)
    return f" (did you mean {near[0]}=?)" if near else ""


def _name_of(path: str) -> str:
    """The name of a file without the suffixes of its format; of a pattern, the folder's.

    >>> _name_of("data/dev.v2.jsonl.gz"), _name_of("beir/scifact/"), _name_of("kd/*.jsonl")
    ('dev.v2', 'scifact', 'kd')
    """
    pure = PurePath(os.path.abspath(os.path.expanduser(path)))
    while glob.has_magic(pure.name):
        pure = pure.parent
    name = pure.name
    while PurePath(name).suffix.lower() in _SUFFIXES:
        name = PurePath(name).stem
    return name or pure.name
