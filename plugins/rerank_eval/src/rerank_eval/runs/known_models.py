"""`KnownModels`: what is known of a model that was loaded before, so that it is loaded again only to rank."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import rerank_core
from rerank_core import InputError
from rerank_eval.runs.model_choice import ModelChoice
from rerank_eval.runs.model_process import Loaded
from rerank_eval.runs.model_run import RunFacts

__all__ = ["KnownModels"]

_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RERANK_THREADS")
_MOST_FILES = 10_000


class KnownModels:
    """Fingerprints of models by what they depend on, in one file of JSON lines.

    That is: the installed packages, the machine, the options, and for a folder its files with their sizes and times. A
    model that may change without any of these is never known: a hub id without a pinned revision, an adapter whose base
    is elsewhere.

    Args:
        folder: of all results.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "models.jsonl"
        self._known: dict[str, Mapping[str, Any]] = {}
        self._environment = _environment()
        with contextlib.suppress(OSError):
            for line in self._path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):  # a torn line
                    data = json.loads(line)
                    self._known[data["key"]] = data["loaded"]

    def get(self, choice: ModelChoice) -> Loaded | None:
        """What loading the model would report; None where it is not known, or may have changed."""
        key = _key(choice, self._environment)
        if key is None or key not in self._known:
            return None
        data = self._known[key]
        try:
            return Loaded(data["fingerprint"], data["options"], RunFacts.from_json(data["facts"]))
        except (TypeError, KeyError):
            return None

    def add(self, choice: ModelChoice, loaded: Loaded) -> None:
        """Note a loaded model.

        Raises:
            InputError: the file cannot be written.
        """
        key = _key(choice, self._environment)
        data = {"fingerprint": loaded.fingerprint, "options": dict(loaded.options), "facts": loaded.facts.to_json()}
        if key is None or not loaded.fingerprint or self._known.get(key) == data:
            return
        self._known[key] = data
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as stream:
                # A line break first, in case a process was killed within a line.
                stream.write(b"\n" + json.dumps({"key": key, "loaded": data}).encode() + b"\n")
        except OSError as error:
            raise InputError(f"results cannot be kept in {str(self._path.parent)!r}: {error}") from error


def _key(choice: ModelChoice, environment: Sequence[Any]) -> str | None:
    """A digest of all that the model depends on; None where that cannot be seen without loading it."""
    places = [choice.source, *(str(choice.options[name]) for name in ("checkpoint",) if name in choice.options)]
    state: list[Any] = [choice.source, sorted(choice.options.items(), key=lambda item: item[0]), *environment]
    for place in places:
        path = Path(place).expanduser()
        if path.exists():
            files = _files(path)
            if files is None:
                return None
            state.append(files)
        elif not _is_pinned(place) or "revision" in choice.options:
            return None
    try:
        text = json.dumps(state, default=str)
    except (TypeError, ValueError):
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _files(path: Path) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of a file or of all files of a folder; None for an adapter, whose base is elsewhere."""
    if path.is_file():
        paths = [path]
    elif (path / "adapter_config.json").exists():
        return None
    else:
        paths = sorted(one for one in path.rglob("*") if one.is_file())
    if len(paths) > _MOST_FILES:
        return None
    return [(str(one.resolve()), one.stat().st_size, one.stat().st_mtime_ns) for one in paths]


def _is_pinned(name: str) -> bool:
    """Whether a name is of an installed plugin's model whose weights are fixed by the plugin's version."""
    specs = [spec for spec in rerank_core.models() if name in spec.names]
    return bool(specs) and all(
        not spec.checkpoint or spec.checkpoint.startswith("package:") or spec.revision is not None for spec in specs
    )


def _environment() -> list[Any]:
    """The installed packages, the machine, and the variables that change threads or devices."""
    packages = sorted({f"{one.name}=={one.version}" for one in distributions()})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [packages, platform.python_version(), platform.node(), cores, [os.environ.get(one) for one in _ENVIRONMENT]]
