"""Fixtures for all tests: the folder of judged data, the repository, and plugin discovery."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rerank_core.plugins import registry
from rerank_core.plugins.registry import Registry

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of judged data (``RERANK_DATA``); skips the test if it is not set."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def commands() -> Iterator[None]:
    """The command line is built once."""
    from helpers.commands import built_once

    with built_once():
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture
def discover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Registry]]:
    """Discover the plugins of this environment and those that a test installed into ``tmp_path``."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    registry.default.cache_clear()
    yield Registry.discover
    registry.default.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith("rerank_") and not name.startswith("rerank_core"):
            del sys.modules[name]
