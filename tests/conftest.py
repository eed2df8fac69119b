"""What the tests share: where the judged data is, and whether this run has it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of judged data, or a skip that says what to set."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    return Path(folder)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
