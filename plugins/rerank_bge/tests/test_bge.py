"""The BGE specs score a checkpoint of their architecture like a reranker should; the real weights, where given, like
their authors say."""

from __future__ import annotations

import pytest

import rerank_core
from rerank_core import Reranker
from rerank_core.testing import ScorerConformance, tiny_cross_encoder

NAMES = ["bge-reranker-base", "bge-reranker-large", "bge-reranker-v2-m3"]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """A tiny random XLM-R under the spec of the family."""
    folder = tiny_cross_encoder(tmp_path_factory.mktemp("bge"), "xlm-roberta")
    return rerank_core.load("bge-reranker-base", checkpoint=folder, device="cpu", max_length=64)


class TestBgeReranker(ScorerConformance):
    """The conformance suite over a tiny random XLM-R in the layout of the family."""


@pytest.mark.parametrize("name", NAMES)
def test_specs_hold_the_published_facts(name: str) -> None:
    """Hub id as alias, a pinned revision, the raw logit, 512 tokens unless asked otherwise (scoring.md §1, §14)."""
    by_name = {spec.name: spec for spec in rerank_core.models()}
    spec = by_name[name]

    assert f"BAAI/{name}" in spec.names
    assert (spec.activation, spec.raw_space, spec.max_length) == ("none", "logit", 512)
    assert spec.revision is not None
    assert len(spec.revision) == 40
