"""Runs the code blocks of the READMEs and the docs as tests: Python blocks, and console lines that begin `$ rerank`."""

from __future__ import annotations

import functools
import gc
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

# One thread per test process: the models are tiny, and `make test` runs one process per core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    from sybil import Example, Sybil
    from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
    from sybil.sybil import SybilCollection
except ImportError:  # `make test-core` runs the core's tests without optional packages
    Sybil = None

ROOT = Path(__file__).resolve().parent


def pytest_collection_finish() -> None:
    """Leave out of every later garbage collection the objects of the imported libraries, which live to the end.

    `transformers.Trainer.train` collects garbage at each start, 0.5 s with a million objects of libraries.
    """
    gc.collect()
    gc.freeze()


def run_console(example: Example) -> None:
    """Run the lines of a console block that start with ``$ rerank``, in the repository, each in its own process."""
    for line in example.parsed.splitlines():
        if line.startswith("$ rerank "):
            done = run_line(line)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            assert done.stdout.strip(), f"{line} printed nothing"


@functools.cache
def run_line(line: str) -> Any:
    """Run one line in its own process; a line that occurs in several documents runs once."""
    from helpers.forked import run_python

    arguments = shlex.split(line.removeprefix("$ rerank "))
    return run_python("-m", "rerank_core", *arguments, cwd=ROOT, env={"COLUMNS": "100"})


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example in a temporary directory, so that it writes no files into the repository."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with tiny random checkpoints of the models that the READMEs of the packages load."""
    from helpers.hubs import hub_cache

    cache = tmp_path_factory.mktemp("hub")
    hub_cache.fill(cache)
    return cache


@pytest.fixture
def from_cache(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the models of a package's README from that cache, without network access."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


if Sybil is not None:
    parsers = [PythonCodeBlockParser(), CodeBlockParser(language="console", evaluator=run_console)]
    pages = ["plugins/*/README.md", "trainers/README.md"]
    pytest_collect_file = SybilCollection(
        [
            Sybil(parsers, patterns=["README.md", "README.zh.md", "docs/*.md"], excludes=pages, fixtures=["elsewhere"]),
            Sybil(parsers, patterns=pages, fixtures=["elsewhere", "from_cache"]),
        ]
    ).pytest()
