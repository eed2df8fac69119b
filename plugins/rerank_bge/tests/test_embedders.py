"""BGE's embedding models score checkpoints of their architecture as sentence-transformers does."""

from __future__ import annotations

from pathlib import Path

import pytest

import rerank_core
from helpers.embedders import assert_as_sentence_transformers
from rerank_core import Reranker
from rerank_core.testing import ScorerConformance, tiny_encoder

ENGLISH = "Represent this sentence for searching relevant passages: "
CHINESE = "为这个句子生成表示以用于检索相关文章："
NAMES = [f"bge-{size}-{language}-v1.5" for language in ("en", "zh") for size in ("small", "base", "large")]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """A tiny random BERT under the spec of the family."""
    folder = tiny_encoder(tmp_path_factory.mktemp("bge"), "bert")
    return rerank_core.load("bge-small-en-v1.5", checkpoint=folder, device="cpu", max_length=64)


class TestBgeEmbedder(ScorerConformance):
    """The conformance suite over it."""


@pytest.mark.parametrize(("name", "instruction"), [("bge-small-en-v1.5", ENGLISH), ("bge-large-zh-v1.5", CHINESE)])
def test_scores_equal_sentence_transformers(tmp_path: Path, name: str, instruction: str) -> None:
    """The first token's vector; the instruction is before queries and can be left out."""
    folder = tiny_encoder(tmp_path, "bert")
    assert_as_sentence_transformers(name, folder, "cls", query=instruction)
    assert_as_sentence_transformers(name, folder, "cls", query="", instruction="")


def test_bge_m3_has_a_dense_and_a_colbert_name(tmp_path: Path) -> None:
    """The hub id stays the name of the model that has all three scores."""
    specs = {spec.name: spec for spec in rerank_core.models()}
    assert "BAAI/bge-m3" in specs["bge-m3-colbert"].names
    assert specs["bge-m3-dense"].names == ("bge-m3-dense",)
    assert specs["bge-m3-dense"].revision == specs["bge-m3-colbert"].revision
    assert_as_sentence_transformers("bge-m3-dense", tiny_encoder(tmp_path, "xlm-roberta"), "cls")


@pytest.mark.parametrize("name", NAMES)
def test_specs_hold_the_published_facts(name: str) -> None:
    spec = next(spec for spec in rerank_core.models() if spec.name == name)
    assert f"BAAI/{name}" in spec.names
    assert (spec.raw_space, spec.max_length, spec.license) == ("cosine", 512, "MIT")
    assert spec.revision is not None
    assert len(spec.revision) == 40
