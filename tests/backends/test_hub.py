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

# Each name is tried, the folder beside it renamed where one is given, and the name tried again.
SCORE = """
import json, os, sys, rerank_core

def tried(name):
    try:
        reranker = rerank_core.load(name, offline=True, device="cpu")
    except rerank_core.CheckpointError as error:
        return str(error)
    scores = reranker.score([("what is a panda?", "a bear"), ("what is a panda?", "")])
    return [reranker.spec.name, reranker.spec.checkpoint, scores]

names, wrong, right = json.loads(sys.argv[1])
before = [tried(name) for name in names]
os.rename(wrong, right)
print(json.dumps([before, [tried(name) for name in names]]))
"""


def cached(cache: Path, hub_id: str, revision: str) -> Path:
    """A tiny checkpoint under a hub id and revision in a cache."""
    return tiny_cross_encoder(snapshot(cache, hub_id, revision), "xlm-roberta")


def test_the_hubs_cache_is_read(tmp_path: Path) -> None:
    """In a process whose hub cache is ours (the library reads its place on import): a one-label classifier that no
    plugin knows loads by its id, is called by it, and scores what its folder scores; a named model, by its name and by
    its id, reads the revision that its spec pins, and no other one that is in the cache."""
    spec = next(spec for spec in rerank_core.models() if spec.name == "bge-reranker-base")
    assert spec.revision is not None
    unknown = cached(tmp_path, "acme/tiny-reranker", "a" * 40)
    wrong = cached(tmp_path, "BAAI/bge-reranker-base", "b" * 40)
    names = ["acme/tiny-reranker", "bge-reranker-base", "BAAI/bge-reranker-base"]
    done = subprocess.run(
        [sys.executable, "-c", SCORE, json.dumps([names, str(wrong), str(wrong.with_name(spec.revision))])],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_CACHE": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout)

    name, checkpoint, scores = before[0]
    assert name == checkpoint == "acme/tiny-reranker"
    pairs = [("what is a panda?", "a bear"), ("what is a panda?", "")]
    assert scores == pytest.approx(rerank_core.load(unknown, device="cpu").score(pairs), abs=1e-6)
    assert after[0] == before[0]
    for refused, loaded in zip(before[1:], after[1:], strict=True):
        assert isinstance(refused, str)
        assert spec.revision in refused
        assert loaded[0] == "bge-reranker-base"
