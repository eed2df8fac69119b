"""Tries untrusted tokenizers and chat templates in a short-lived child process before they are loaded.

A damaged tokenizer can crash its process and a template can loop for hours; neither may end or block a server. Files
with a known digest or from a pinned commit are not tried (`trust`), and each content is tried only once.
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

from rerank_core.backends.fork_safety import Lock
from rerank_core.errors import CheckpointError
from rerank_core.spec.untrusted_files import read_json, reading, reason, regular_file, sha256_of

__all__ = ["trust", "try_template", "try_tokenizer"]

_LOG = logging.getLogger("rerank_core")

_CHILD = Path(__file__).with_name("child_main.py")
# Limits of processor time. The largest known tokenizers (17 MB) take 2 s on an old processor, templates a few
# milliseconds.
_SECONDS, _SECONDS_A_MEGABYTE = {"tokenizer": 8, "template": 2}, 0.5
_MEMORY, _MEMORY_A_BYTE = 4 << 30, 200
# The wall-clock limit is this multiple of the limit of processor time, for machines under load.
_PATIENCE = 8

_lock = Lock()
# Digests of tokenizers; the texts of templates with the values they were rendered with.
_passed: set[object] = set()


def trust(file: Path) -> None:
    """Do not try this file: its digest or its pinned commit shows that it is the publisher's."""
    if file.is_file():
        digest = _digest(file)
        with _lock:
            _passed.add(digest)


def try_tokenizer(file: Path) -> None:
    """Check that a ``tokenizer.json`` can be read and encodes texts.

    Raises:
        CheckpointError: it cannot be read, or reading it crashes or does not end.
    """
    size = regular_file(file).stat().st_size
    digest = _digest(file)
    if digest in _passed:
        return
    if not _tried(file, "tokenizer", "tokenizers", [str(file)], size):
        _refuse_control_characters(file)
    with _lock:
        _passed.add(digest)


def try_template(source: str, values: Sequence[dict[str, Any]], file: Path) -> None:
    """Check that a chat template can be rendered within seconds, with each of these values.

    Args:
        values: the template's variables, once for each text.
        file: the file or folder of the template, for messages.

    Raises:
        CheckpointError: it cannot be rendered, or rendering does not end.
    """
    marks = {(source, json.dumps(each, sort_keys=True)) for each in values}
    if marks <= _passed:
        return
    _tried(file, "template", "jinja2", [source, list(values)], len(source))
    with _lock:
        _passed.update(marks)


def _digest(file: Path) -> str:
    with reading(file, "cannot be read"):
        return sha256_of(file)


def _tried(file: Path, kind: str, package: str, arguments: Sequence[Any], size: int) -> bool:
    """True after success in a child process; False if no child process can be started.

    Raises:
        CheckpointError: the child process failed.
    """
    spec = importlib.util.find_spec(package)
    if not sys.executable or getattr(sys, "frozen", False) or not _CHILD.is_file() or spec is None or not spec.origin:
        _LOG.debug("%s is opened without a trial: no child Python can be started", file)
        return False
    seconds = int(_SECONDS[kind] + _SECONDS_A_MEGABYTE * size / 1e6)
    request = {
        "kind": kind,
        "arguments": list(arguments),
        "seconds": seconds,
        "memory": _MEMORY + _MEMORY_A_BYTE * size,
        # Only these paths and no `site`: the child starts three times as fast.
        "paths": _import_paths(package, spec.origin),
    }
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "RUST_BACKTRACE": "0"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", str(_CHILD)],
            input=json.dumps(request) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds * _PATIENCE,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(_over_limit(file, kind)) from error
    except OSError as error:
        _LOG.debug("%s is opened without a trial: %s", file, error)
        return False
    if done.returncode in (-getattr(signal, "SIGXCPU", 24), -9):
        raise CheckpointError(_over_limit(file, kind))
    if done.returncode < 0 or (done.returncode and "ImportError" not in done.stderr):
        raise CheckpointError(
            f"{file}: {package} crashes on this {kind} (exit code {done.returncode}): {_last(done.stderr)}. It is "
            "damaged or malicious; download it again"
        )
    if done.returncode:
        _LOG.debug("%s is opened without a trial: %s", file, _last(done.stderr))
        return False
    message = json.loads(done.stdout.splitlines()[-1])
    if message is not None:
        raise CheckpointError(f"{file}: the {kind} cannot be read: {reason(Exception(message))}")
    return True


def _over_limit(file: Path, kind: str) -> str:
    return f"{file}: the {kind} took more time or memory than a valid one needs; it is damaged or malicious"


def _import_paths(package: str, origin: str) -> list[str]:
    """Where a package and its dependency can be imported from."""
    paths = [str(Path(origin).parent.parent)]
    needs = importlib.util.find_spec("markupsafe") if package == "jinja2" else None
    return [*paths, *([str(Path(needs.origin).parent.parent)] if needs is not None and needs.origin else [])]


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "RUST_BACKTRACE" not in line]
    return " ".join(lines[-2:])[-300:] or "no message"


def _refuse_control_characters(file: Path) -> None:
    """Where no child process can be started, refuse values that are known to crash tokenizers.

    Raises:
        CheckpointError: control characters in a text that marks pieces of words.
    """
    model = read_json(file).inner("model")
    for name in ("continuing_subword_prefix", "end_of_word_suffix", "unk_token"):
        value = model.of(name, str, "")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise model.wrong(name, "it must be visible text")
