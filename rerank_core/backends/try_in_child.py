"""What a stranger's folder hands to native code is opened in a short-lived process first, which may die of it.

A tokenizer that aborts takes its process with it, a template may loop for a day; a server must outlive both. What a
digest or a pinned commit vouches for is not tried (`trust`), and no file is tried twice while it stays as it is.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_core.backends.after_fork import Lock
from rerank_core.errors import CheckpointError
from rerank_core.spec.untrusted_files import read_json, reason, regular_file

__all__ = ["trust", "try_template", "try_tokenizer"]

_LOG = logging.getLogger("rerank_core")

_CHILD = Path(__file__).with_name("child_main.py")
# The largest tokenizers there are (17 MB) take 2 s of an old processor, and templates a few milliseconds; what needs
# more than this is broken.
_SECONDS, _SECONDS_A_MEGABYTE = {"tokenizer": 8, "template": 2}, 0.5
_MEMORY, _MEMORY_A_BYTE = 4 << 30, 200
# On a machine where everything waits for a processor; what sleeps instead of computing is ended by it.
_PATIENCE = 8

_lock = Lock()
_passed: set[tuple[object, ...]] = set()


def trust(file: Path) -> None:
    """Never try a file: a digest or a pinned commit says that it is its publisher's."""
    if file.is_file():
        with _lock:
            _passed.add(_mark(file))


def try_tokenizer(file: Path) -> None:
    """Find out whether a ``tokenizer.json`` can be read, and texts be encoded with it.

    Raises:
        CheckpointError: it cannot, or what reads it dies or does not end.
    """
    size = regular_file(file).stat().st_size
    mark = _mark(file)
    if mark in _passed:
        return
    if not _tried(file, "tokenizer", "tokenizers", [str(file)], size):
        _looked_at(file)
    with _lock:
        _passed.add(mark)


def try_template(source: str, values: dict[str, Any], file: Path) -> None:
    """Find out whether a chat template can be rendered with these values, in seconds.

    Args:
        file: that it is from, or its folder, for messages.

    Raises:
        CheckpointError: it cannot, or does not end.
    """
    mark = (source, json.dumps(values, sort_keys=True))
    if mark in _passed:
        return
    _tried(file, "template", "jinja2", [source, values], len(source))
    with _lock:
        _passed.add(mark)


def _mark(file: Path) -> tuple[object, ...]:
    real = file.resolve()
    found = real.stat()
    return str(real), found.st_ino, found.st_size, found.st_mtime_ns


def _tried(file: Path, what: str, package: str, given: Sequence[Any], size: int) -> bool:
    """Whether it could be tried at all, and then went well."""
    spec = importlib.util.find_spec(package)
    if not sys.executable or getattr(sys, "frozen", False) or not _CHILD.is_file() or spec is None or not spec.origin:
        _LOG.debug("%s is opened without a trial: no Python can be started from here", file)
        return False
    seconds = int(_SECONDS[what] + _SECONDS_A_MEGABYTE * size / 1e6)
    asked = {
        "what": what,
        "given": list(given),
        "seconds": seconds,
        "memory": _MEMORY + _MEMORY_A_BYTE * size,
        # Neither this process's path as a whole nor site: the child starts three times as fast, and finds the same.
        "places": _places(package, spec.origin),
    }
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", str(_CHILD)],
            input=json.dumps(asked) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds * _PATIENCE,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(_endless(file, what)) from error
    except OSError as error:
        _LOG.debug("%s is opened without a trial: %s", file, error)
        return False
    if done.returncode in (-getattr(signal, "SIGXCPU", 24), -9):
        raise CheckpointError(_endless(file, what))
    if done.returncode < 0 or (done.returncode and "ImportError" not in done.stderr):
        raise CheckpointError(
            f"{file}: {package} dies of this {what} (exit code {done.returncode}), and would have taken this process "
            f"with it: {_last(done.stderr)}"
        )
    if done.returncode:
        _LOG.debug("%s is opened without a trial: %s", file, _last(done.stderr))
        return False
    said = json.loads(done.stdout.splitlines()[-1])
    if said is not None:
        raise CheckpointError(f"{file}: the {what} cannot be read: {reason(Exception(said))}")
    return True


def _endless(file: Path, what: str) -> str:
    return f"{file}: the {what} took more time or memory than any that is whole; it is damaged, or made to"


def _places(package: str, origin: str) -> list[str]:
    """Where a package and what it needs can be imported from."""
    found = [str(Path(origin).parent.parent)]
    needs = importlib.util.find_spec("markupsafe") if package == "jinja2" else None
    return [*found, *([str(Path(needs.origin).parent.parent)] if needs is not None and needs.origin else [])]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "RUST_BACKTRACE" not in line]
    return " ".join(lines[-2:])[-300:] or "it said nothing"


def _looked_at(file: Path) -> None:
    """Without a process to try it in: refuse what is known to end one.

    Raises:
        CheckpointError: text of control characters where pieces of words are written.
    """
    model = read_json(file).inner("model")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        value = model.of(name, str, "")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise model.wrong(name, "it must be visible text")
