"""Late-interaction models that the trainers publish, opened by PyLate and FlagEmbedding, which do not run beside the
current sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.late_models import LATE_MODELS, late_model
from helpers.separate_folders import DOCS, QUERIES, WIDTH, our_scores

import rerank_core
from helpers.plain import assert_close
from parity.conftest import Originals
from rerank_trainers.publish.folders.colbert import write_colbert


@pytest.mark.parametrize("name", [name for name, (_, layouts) in LATE_MODELS.items() if "pylate" in layouts])
def test_pylate_scores_what_is_published(name: str, pylate: Originals, tmp_path: Path) -> None:
    """Markers, prompts, filled-up queries, skip-lists and layers are read as they were trained; a mean is a sum.
    The sentence-transformers that it wants strips texts."""
    spec = late_model(tmp_path, name)
    write_colbert(tmp_path, spec)
    with rerank_core.load(tmp_path, device="cpu") as reranker:
        scorer: Any = reranker.scorer
        for query in map(str.strip, QUERIES):
            answer = pylate.send(
                entry="score", framework="pylate", directory=str(tmp_path), query=query, docs=DOCS, prompts=True
            )
            assert "scores" in answer, answer
            (row,) = (scorer.query_row(tokens) for tokens in scorer.tokenize([query], "query"))
            factor = len(row.ids) if spec.head is not None and spec.head.reduce == "mean" else 1
            assert_close(answer["scores"], [factor * score for score in reranker.score([(query, d) for d in DOCS])])


def test_flag_embedding_scores_what_is_published(bge_m3: Originals, tmp_path: Path) -> None:
    """Beside a ``sparse_linear.pt``, without which it takes no layer from a file."""
    write_colbert(tmp_path, late_model(tmp_path, "m3", WIDTH))
    torch.save({"weight": torch.zeros(1, WIDTH), "bias": torch.zeros(1)}, tmp_path / "sparse_linear.pt")
    for query in QUERIES:
        answer = bge_m3.send(
            entry="score", framework="bge-m3", directory=str(tmp_path), query=query, docs=DOCS, max_length=96
        )
        assert "colbert" in answer, answer
        assert_close(answer["colbert"], our_scores(tmp_path, [(query, doc) for doc in DOCS]))
