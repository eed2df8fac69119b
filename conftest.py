"""Every code block of the README and the docs is a test: Python blocks run, `$ rerank` lines succeed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

# One thread for each process of the tests: the models are tiny, and `make test` runs one process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

try:
    from sybil import Example, Sybil
    from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser
except ImportError:  # make test-core runs the core's own tests with as little as possible installed
    Sybil = None

ROOT = Path(__file__).resolve().parent


def run_console(example: Example) -> None:
    """Run the lines of a console block that start with ``$ rerank``, in the repository, each in its own process."""
    from helpers.processes import run_module

    for line in example.parsed.splitlines():
        if line.startswith("$ rerank "):
            arguments = shlex.split(line.removeprefix("$ rerank "))
            done = run_module("rerank_core", *arguments, cwd=ROOT, env={"COLUMNS": "100"})
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            assert done.stdout.strip(), f"{line} printed nothing"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an example writes does not stay in the repository."""
    monkeypatch.chdir(tmp_path)


if Sybil is not None:
    pytest_collect_file = Sybil(
        parsers=[PythonCodeBlockParser(), CodeBlockParser(language="console", evaluator=run_console)],
        patterns=["README.md", "README.zh.md", "docs/*.md"],
        fixtures=["elsewhere"],
    ).pytest()
