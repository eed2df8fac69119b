"""A large step does not hold its similarities in memory."""

from __future__ import annotations

import pytest
import torch
from helpers.memory import LiveBytes
from helpers.steps import Texts

from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.step import Side
from rerank_trainers.objectives.whole_step.cosent import CoSENT
from rerank_trainers.objectives.whole_step.infonce import InfoNCE
from rerank_trainers.objectives.whole_step.similarity_distillation import SimilarityDistillation, SimilarityOrder

DOCUMENTS, WIDTH = 8, 384
EVERY_DIRECTION = InfoNCE(directions=("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc"))


@pytest.mark.parametrize(
    ("objective", "queries", "limit"),
    [
        (EVERY_DIRECTION, 1024, 100),
        (CoSENT(), 1024, 80),
        (SimilarityOrder(), 1024, 100),
        (SimilarityDistillation(), 384, 60),
    ],
    ids=lambda value: value.name if isinstance(value, Objective) else None,
)
def test_a_large_step_takes_little_memory(objective: Objective, queries: int, limit: int) -> None:
    """The megabytes of the forward and the backward pass, most of them for vectors and their gradients (14 each for
    1,024 queries). The similarities of 1,024 queries and their documents would take 32, those of the documents with
    each other 256, and those of all 3,456 texts of 384 queries 46, each several times."""
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(count, WIDTH, generator=generator) for count in (queries, queries * DOCUMENTS) * 2]
    labels = (torch.arange(queries * DOCUMENTS) % DOCUMENTS == 0).float()
    taught: dict[Side, torch.Tensor] = {"query": vectors[2], "document": vectors[3]}
    texts = Texts(vectors[0], vectors[1].requires_grad_(), [DOCUMENTS] * queries, labels, teacher_vectors=taught)
    step = texts.step(temperature=0.02)
    with LiveBytes() as live:
        objective.of_step(step).mean().backward()
    assert texts.documents.grad is not None
    assert texts.documents.grad.isfinite().all()
    assert texts.documents.grad.count_nonzero() > 0
    assert live.peak < limit * 2**20
