"""``manifest.json`` of an index in a folder: untrusted until every field was looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_core.errors import IndexStoreError

__all__ = ["AGAIN", "MANIFEST", "PRECISIONS", "SCHEMA", "manifest_of"]

MANIFEST = "manifest.json"
SCHEMA = 1
PRECISIONS = ("float32", "float16", "int8")
AGAIN = "Make the index again in another folder"

_SHARD = {"sha256": str, "bytes": int, "vectors": int, "drift": list, "exact": bool}


def manifest_of(path: Path) -> dict[str, Any]:
    """What a manifest says: ``schema_version``, ``identity``, ``precision``, ``shards``.

    Raises:
        IndexStoreError: not JSON, another version, or a field that no index has.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if type(found["schema_version"]) is not int or found["schema_version"] != SCHEMA:
            raise IndexStoreError(
                f"{path}: schema_version is {found['schema_version']!r}; this rerank-core reads {SCHEMA}. {AGAIN}"
            )
        if found["precision"] not in PRECISIONS:
            raise ValueError(f"precision is {found['precision']!r}")
        if not isinstance(found["identity"], dict) or not isinstance(found["shards"], list):
            raise TypeError("identity must be an object and shards a list")
        for shard in found["shards"]:
            _check(shard)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexStoreError(f"{path} cannot be read ({type(error).__name__}: {error}). {AGAIN}") from error
    return found


def _check(shard: dict[str, Any]) -> None:
    file = shard["file"]
    if not isinstance(file, str) or Path(file).name != file or "\0" in file:
        raise ValueError(f"it names a file outside its folder: {file!r}")
    for name, kind in _SHARD.items():
        if not isinstance(shard[name], kind):
            raise TypeError(f"{name} of a shard is {shard[name]!r}")
    if len(shard["drift"]) != 2 or not all(isinstance(value, (int, float)) for value in shard["drift"]):
        raise TypeError(f"drift of a shard is {shard['drift']!r}")
