"""Reads ``manifest.json`` of an index folder and checks every field, because the file is untrusted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rerank_core.errors import IndexStoreError, short

__all__ = ["MANIFEST", "PRECISIONS", "REBUILD_HINT", "SCHEMA", "manifest_of"]

MANIFEST = "manifest.json"
SCHEMA = 1
PRECISIONS = ("float32", "float16", "int8")
REBUILD_HINT = "Make the index again in another folder"

_SHA256 = re.compile("[0-9a-f]{64}")


def manifest_of(path: Path) -> dict[str, Any]:
    """The checked manifest: ``schema_version``, ``identity``, ``precision``, ``shards``.

    Raises:
        IndexStoreError: not JSON, another schema version, or a missing or invalid field.
    """
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if type(manifest["schema_version"]) is not int or manifest["schema_version"] != SCHEMA:
            raise IndexStoreError(
                f"{path}: schema_version is {manifest['schema_version']!r}; this rerank-core reads {SCHEMA}. "
                f"{REBUILD_HINT}"
            )
        if manifest["precision"] not in PRECISIONS:
            raise ValueError(f"precision is {manifest['precision']!r}")
        if not isinstance(manifest["identity"], dict) or not isinstance(manifest["shards"], list):
            raise TypeError("identity must be an object and shards a list")
        for shard in manifest["shards"]:
            _check_shard(shard, exact=manifest["precision"] == "float32")
        files = [shard["file"] for shard in manifest["shards"]]
        if len(set(files)) < len(files):
            raise ValueError(f"it names a file twice: {short(sorted(files))}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexStoreError(f"{path} cannot be read ({type(error).__name__}: {error}). {REBUILD_HINT}") from error
    return manifest


def _check_shard(shard: dict[str, Any], *, exact: bool) -> None:
    """Check what the manifest says of one shard.

    Args:
        exact: the index stores vectors in float32, so its drift is 0.

    Raises:
        ValueError, TypeError, KeyError: a field that is invalid or missing.
    """
    file = shard["file"]
    if not isinstance(file, str) or Path(file).name != file or "\0" in file:
        raise ValueError(f"it names a file outside its folder: {short(file)}")
    for name in ("bytes", "texts", "vectors"):
        if type(shard[name]) is not int or shard[name] < 0:
            raise ValueError(f"{name} of {file} is {short(shard[name])}; it must be a whole number, 0 or more")
    if not isinstance(shard["sha256"], str) or not _SHA256.fullmatch(shard["sha256"]):
        raise ValueError(f"sha256 of {file} is {short(shard['sha256'])}")
    if not isinstance(shard["exact"], bool):
        raise TypeError(f"exact of {file} is {short(shard['exact'])}; it must be true or false")
    drift = shard["drift"]
    # Compared as it is and not as a float, because an integer of JSON may be too large for one.
    valid = (
        isinstance(drift, list)
        and len(drift) == 2
        and all(type(value) in (int, float) and 0 <= value <= (0 if exact else 1e30) for value in drift)
    )
    # Rounding may put the mean of equal numbers a little above them.
    if not valid or drift[0] > drift[1] * 1.001:
        raise ValueError(
            f"drift of {file} is {short(drift)}; it must be a mean and a maximum from 0 on, both 0 for float32"
        )
