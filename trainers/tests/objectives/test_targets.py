"""Targets that say nothing give zeros, targets that cannot be are refused, a teacher that is too sure is reported."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from rerank_core import InputError
from rerank_trainers.objectives import distillation
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import ListNet, SoftmaxCE
from rerank_trainers.objectives.pairwise import LambdaLoss, RankNet
from rerank_trainers.objectives.pointwise import BCE, MSE

# An objective, the labels and the teacher's scores of a group that says nothing.
SILENT: list[tuple[Objective, list[float], list[float]]] = [
    *((one, [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]) for one in (RankNet(), LambdaLoss(), ListNet(), SoftmaxCE())),
    *((one, [1.0, 1.0, 1.0], [0.0, 1.0, 2.0]) for one in (RankNet(), LambdaLoss(k=1), ListNet())),
    (SoftmaxCE(multi_positive="each"), [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]),
    (SoftmaxCE(multi_positive="each"), [1.0, 0.5, 1.0], [0.0, 1.0, 2.0]),
    (SoftmaxCE(target="softmax_of_labels"), [0.0, 0.0, 0.0], [0.0, 1.0, 2.0]),
    (MarginMSE(pairs="labelled"), [1.0, 1.0, 1.0], [0.0, 1.0, 2.0]),
]


@pytest.mark.parametrize(("objective", "labels", "teacher"), SILENT)
def test_a_group_without_signal_is_a_zero_in_the_graph(
    objective: Objective, labels: list[float], teacher: list[float]
) -> None:
    """No positive, or nothing to order: loss exactly 0, gradient exactly 0, and a neighbour keeps its own."""
    scores = torch.tensor([[0.3, -1.0, 2.0], [0.3, -1.0, 2.0]], requires_grad=True)
    y, t = torch.tensor([labels, [0.0, 1.0, 0.0]]), torch.tensor([teacher, [0.0, 3.0, 1.0]])
    losses = objective(scores, y, t, torch.ones(2, 3, dtype=torch.bool))
    losses.sum().backward()
    assert scores.grad is not None
    assert (losses[0].item(), scores.grad[0].tolist()) == (0, [0, 0, 0])
    assert losses[1].item() > 0
    assert scores.grad[1].abs().max() > 1e-2


def test_a_teacher_that_is_one_hot_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Scores of 0 and 1 at T 0.02 say nothing beyond the best document: a warning, but not at every step."""
    monkeypatch.setattr(distillation, "reported", set())
    scores, teacher = torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.5], [0.5, 0.4, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    with caplog.at_level(logging.WARNING, "rerank_trainers"):
        KL(teacher_temperature=0.5)(scores, None, teacher, mask)
        assert not caplog.records
        for _ in range(3):
            KL(teacher_temperature=0.02)(scores, None, teacher, mask)
    (record,) = caplog.records
    assert "one-hot in 1 of 2 groups" in record.getMessage()
    assert "teacher_temperature 0.02" in record.getMessage()


@pytest.mark.parametrize("wrong", [5.0, -0.5, math.nan, math.inf])
@pytest.mark.parametrize(
    "objective", [BCE(), MSE(), BCE(teacher_space="probability"), MSE(teacher_space="probability")]
)
def test_a_target_that_is_no_probability_is_refused(objective: Objective, wrong: float) -> None:
    """A label 5 is an error that shows it, and not a direction to train in; in the padding it is nothing."""
    scores, targets = torch.zeros(1, 2), torch.tensor([[1.0, wrong]])
    assert objective(scores, targets, targets, torch.tensor([[True, False]])).isfinite().all()
    with pytest.raises(InputError, match=f"hold {wrong!r}.*from 0 to 1"):
        objective(scores, targets, targets, torch.tensor([[True, True]]))


def test_tensors_that_do_not_fit_are_refused() -> None:
    """Another shape, flat scores, whole numbers as scores and a mask of numbers are errors that say what must be."""
    scores, mask = torch.zeros(2, 3), torch.ones(2, 3, dtype=torch.bool)
    for arguments, words in (
        ((scores, torch.zeros(2, 4), None, mask), r"labels has the shape \(2, 4\)"),
        ((scores, torch.zeros(3), None, mask), r"labels has the shape \(3,\)"),
        ((scores[0], torch.zeros(3), None, mask[0]), r"both must be \[groups, docs\]"),
        ((scores, torch.zeros(2, 3), None, mask[:1]), "mask has the shape"),
        ((scores, torch.zeros(2, 3), None, mask.long()), r"torch\.bool"),
        ((scores.long(), torch.zeros(2, 3), None, mask), "logits"),
    ):
        with pytest.raises(InputError, match=words):
            BCE()(*arguments)
