"""Models of the hub, from a cache in the layout of the hub's own library, without network access."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

import rerank_core
from helpers.hubs.hub_cache import snapshot
from rerank_core import CheckpointError
from rerank_core.testing import tiny_cross_encoder

PAIRS = [("what is a panda?", "a bear"), ("what is a panda?", "")]


def cached(cache: Path, hub_id: str, revision: str) -> Path:
    """A tiny checkpoint under a hub id and revision in a cache."""
    return tiny_cross_encoder(snapshot(cache, hub_id, revision), "xlm-roberta")


def loaded(name: str) -> Any:
    """Name, checkpoint and scores of a model that is loaded without network access."""
    reranker = rerank_core.load(name, offline=True, device="cpu")
    return reranker.spec.name, reranker.spec.checkpoint, reranker.score(PAIRS)


def test_the_hubs_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-label classifier that no plugin knows loads by its id and scores as its folder does; a named model, by
    its name and by its id, reads the revision that its spec pins, and no other revision in the cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    spec = next(spec for spec in rerank_core.models() if spec.name == "bge-reranker-base")
    assert spec.revision is not None
    unknown = cached(tmp_path, "acme/tiny-reranker", "a" * 40)
    wrong = cached(tmp_path, "BAAI/bge-reranker-base", "b" * 40)

    name, checkpoint, scores = loaded("acme/tiny-reranker")
    assert name == checkpoint == "acme/tiny-reranker"
    assert scores == pytest.approx(rerank_core.load(unknown, device="cpu").score(PAIRS), abs=1e-6)
    for given in ("bge-reranker-base", "BAAI/bge-reranker-base"):
        with pytest.raises(CheckpointError, match=spec.revision):
            loaded(given)

    wrong.rename(wrong.with_name(spec.revision))
    for given in ("bge-reranker-base", "BAAI/bge-reranker-base"):
        assert loaded(given)[0] == "bge-reranker-base"
