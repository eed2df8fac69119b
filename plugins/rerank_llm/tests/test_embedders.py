"""Qwen3-Embedding scores a checkpoint of its architecture as sentence-transformers does."""

from __future__ import annotations

from pathlib import Path

from helpers.embedders import assert_as_sentence_transformers, with_end
from rerank_core.testing import tiny_causal_lm

TASK = "Given a web search query, retrieve relevant passages that answer the query"


def test_scores_equal_sentence_transformers(tmp_path: Path) -> None:
    """The end token's hidden state; the instruction is the query's, in the form of the model card, and may change."""
    folder = with_end(tiny_causal_lm(tmp_path, "qwen3"))
    name = "qwen3-embedding-0.6b"
    assert_as_sentence_transformers(name, folder, "lasttoken", query=f"Instruct: {TASK}\nQuery:")
    assert_as_sentence_transformers(
        name, folder, "lasttoken", query="Instruct: Find code\nQuery:", instruction="Find code"
    )
    assert_as_sentence_transformers(name, folder, "lasttoken", query="", instruction="", truncate_dim=8)
