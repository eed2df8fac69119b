"""A step of 1,024 queries with 8 documents each does not hold its similarities."""

from __future__ import annotations

import pytest
import torch
from helpers.memory import LiveBytes
from helpers.steps import Texts

from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.step import Side
from rerank_trainers.objectives.whole_step.infonce import InfoNCE

QUERIES, DOCUMENTS, WIDTH = 1024, 8, 384
OBJECTIVES: list[Objective] = [InfoNCE(directions=("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"))]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
def test_a_large_step_takes_little_memory(objective: Objective) -> None:
    """The forward and the backward pass take less than 100 MB, most of it for gradients of the vectors (14 MB). The
    similarities of queries and documents would take 32 MB, those of documents with each other 256 MB, each several
    times."""
    generator = torch.Generator().manual_seed(0)
    queries, documents = (
        torch.randn(count, WIDTH, generator=generator, requires_grad=True) for count in (QUERIES, QUERIES * DOCUMENTS)
    )
    labels = (torch.arange(len(documents)) % DOCUMENTS == 0).float()
    teacher_vectors: dict[Side, torch.Tensor] = {
        "query": torch.randn(QUERIES, WIDTH),
        "document": torch.randn(QUERIES * DOCUMENTS, WIDTH),
    }
    texts = Texts(queries, documents, [DOCUMENTS] * QUERIES, labels, labels, teacher_vectors=teacher_vectors)
    step = texts.step(temperature=0.02)
    with LiveBytes() as live:
        objective.of_step(step).mean().backward()
    assert documents.grad is not None
    assert documents.grad.isfinite().all()
    assert documents.grad.count_nonzero() > 0
    assert live.peak < 100 * 2**20
