"""Models of the hub, from a cache laid out as the hub's own library lays it out: no network is needed or tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rerank_core
from helpers.hub_cache import snapshot
from rerank_core.testing import tiny_cross_encoder

SCORE = """
import json, sys, rerank_core
reranker = rerank_core.load(sys.argv[1], offline=True, device="cpu")
scores = reranker.score([("what is a panda?", "a bear"), ("what is a panda?", "")])
print(json.dumps([reranker.spec.name, reranker.spec.checkpoint, scores]))
"""


def cached(cache: Path, hub_id: str, revision: str) -> Path:
    """A tiny checkpoint under a hub id and revision in a cache."""
    return tiny_cross_encoder(snapshot(cache, hub_id, revision), "xlm-roberta")


def load(cache: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Load and score in a process whose hub cache is ours (the library reads its place on import)."""
    environment = {**os.environ, "HF_HUB_CACHE": str(cache)}
    return subprocess.run([sys.executable, "-c", SCORE, name], capture_output=True, text=True, env=environment)


def test_hub_id_that_no_plugin_knows_loads_by_its_files(tmp_path: Path) -> None:
    """A one-label classifier of the hub loads by its id, is called by it, and scores what its folder scores."""
    folder = cached(tmp_path, "acme/tiny-reranker", "a" * 40)
    done = load(tmp_path, "acme/tiny-reranker")
    assert done.returncode == 0, done.stderr
    name, checkpoint, scores = json.loads(done.stdout)

    assert name == checkpoint == "acme/tiny-reranker"
    pairs = [("what is a panda?", "a bear"), ("what is a panda?", "")]
    assert scores == pytest.approx(rerank_core.load(folder, device="cpu").score(pairs), abs=1e-6)


@pytest.mark.parametrize("name", ["bge-reranker-base", "BAAI/bge-reranker-base"])
def test_named_model_takes_its_pinned_revision(tmp_path: Path, name: str) -> None:
    """A named model reads the revision its spec pins, and no other one that is in the cache."""
    spec = next(spec for spec in rerank_core.models() if spec.name == "bge-reranker-base")
    assert spec.revision is not None
    cached(tmp_path / "right", "BAAI/bge-reranker-base", spec.revision)
    cached(tmp_path / "wrong", "BAAI/bge-reranker-base", "b" * 40)

    right, wrong = load(tmp_path / "right", name), load(tmp_path / "wrong", name)
    assert json.loads(right.stdout)[0] == "bge-reranker-base"
    assert wrong.returncode != 0
    assert spec.revision in wrong.stderr
    assert "CheckpointError" in wrong.stderr
