"""E5's embedding models score checkpoints of their architecture as sentence-transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.embedders import assert_as_sentence_transformers
from rerank_core.testing import tiny_encoder


@pytest.mark.parametrize(("name", "family"), [("e5-small-v2", "bert"), ("multilingual-e5-base", "xlm-roberta")])
def test_scores_equal_sentence_transformers(tmp_path: Path, name: str, family: Any) -> None:
    """The mean of all tokens, ``query: `` and ``passage: `` included."""
    assert_as_sentence_transformers(name, tiny_encoder(tmp_path, family), "mean", query="query: ", document="passage: ")
