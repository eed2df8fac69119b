"""Objectives of a step compute in float32, under autocast too, and hide no NaN."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from helpers.steps import Texts, losses_and_gradients, with_leaves

from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.registry import OBJECTIVES, make_objective
from rerank_trainers.objectives.whole_step import blocks

EVERY = [made for made in map(make_objective, OBJECTIVES) if made.needs.step or made.needs.vectors]


def texts() -> Texts:
    generator = torch.Generator().manual_seed(0)
    queries, documents, *taught = (torch.randn(count, 8, generator=generator) for count in (4, 8) * 2)
    labels = torch.tensor([1.0, 0, 0, 1, 1, 0.5, 0, 0])
    return Texts(queries, documents, [2] * 4, labels, teacher_vectors={"query": taught[0], "document": taught[1]})


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.name)
def test_autocast_changes_nothing(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradients under bfloat16 autocast are those without it, in blocks too, which run twice."""
    plain = losses_and_gradients(objective, texts(), [range(4)], 0.02)
    assert plain[0].dtype == torch.float32
    for rows in (64, 1):
        monkeypatch.setattr(blocks, "ROWS", rows)
        moved, leaves = with_leaves(texts())
        step = moved.step(None, 0.02)
        with torch.autocast("cpu", torch.bfloat16):
            losses = objective.of_step(step)
        found = [losses.detach(), *torch.autograd.grad(losses.sum(), leaves)]
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: objective.name)
def test_a_vector_that_is_not_a_number_makes_the_loss_none(objective: Objective) -> None:
    """The trainer must see it and stop the run: it is not masked, and not sorted to an end."""
    broken = texts().documents.clone()
    broken[1] = math.nan
    losses = objective.of_step(replace(texts(), documents=broken).step())
    assert losses.isnan().any()
    teacher = texts().teacher_vectors
    assert teacher is not None
    if objective.needs.teacher_vectors:
        losses = objective.of_step(replace(texts(), teacher_vectors={**teacher, "document": broken}).step())
        assert losses.isnan().any()
