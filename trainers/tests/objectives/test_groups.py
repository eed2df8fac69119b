"""A loss is its own group's: not its neighbours', the padding's, the order of documents or the float type's."""

from __future__ import annotations

import math

import pytest
import torch
from helpers.steps import on_groups
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from rerank_core import InputError
from rerank_trainers.objectives.base import GroupObjective, Needs, Objective, PaddedGroups
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import ListNet, SoftmaxCE
from rerank_trainers.objectives.pairwise import LambdaLoss, RankNet
from rerank_trainers.objectives.pointwise import BCE, MSE
from rerank_trainers.objectives.weighted import weighted_sum

SHIFT_INVARIANT: list[Objective] = [
    KL(),
    KL(teacher_temperature=3, student_temperature=0.5),
    LambdaLoss(),
    LambdaLoss(k=2, gain="linear"),
    ListNet(),
    MarginMSE(),
    MarginMSE(pairs="labelled"),
    RankNet(),
    RankNet(normalise="pairs"),
    SoftmaxCE(),
    SoftmaxCE(multi_positive="each"),
    SoftmaxCE(target="softmax_of_labels"),
    weighted_sum([(1, SoftmaxCE()), (0.5, MarginMSE())]),
]
ABSOLUTE: list[Objective] = [
    BCE(),
    BCE(pos_weight=2),
    BCE(teacher_space="logit"),
    MSE(),
    MSE(teacher_space="logit"),
    weighted_sum([(1, SoftmaxCE()), (0.1, BCE())]),
]
EVERY = SHIFT_INVARIANT + ABSOLUTE
SIZES = (4, 1, 6, 2)

Rows = list[Tensor]


@pytest.fixture(params=EVERY, ids=str)
def objective(request: pytest.FixtureRequest) -> Objective:
    """Every objective, with every option that changes its formula."""
    found: Objective = request.param
    return found


def rows(seed: int = 0) -> tuple[Rows, Rows, Rows]:
    """Scores, graded labels with a 1 and a 0 where there is room, and teacher's scores."""
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(4, (size,), generator=generator) / 3 for size in SIZES]
    for one in labels:
        one[:2] = torch.tensor([1.0, 0.0])[: len(one)]
    scores, teacher = ([2 * torch.randn(size, generator=generator) for size in SIZES] for _ in range(2))
    return scores, labels, teacher


def run(
    objective: Objective, scores: Rows, labels: Rows, teacher: Rows, fill: float = math.nan, wider: int = 0
) -> Rows:
    """Losses, and the gradient of each group's scores; the gradient of the padding must be exactly 0."""
    mask = pad_sequence([torch.ones(len(one), dtype=torch.bool) for one in scores], batch_first=True)
    mask = torch.nn.functional.pad(mask, (0, wider))
    padded = []
    for values in (scores, labels, teacher):
        laid = torch.full(mask.shape, fill)
        laid[mask] = torch.cat(values)
        padded.append(laid)
    z, y, t = padded
    z.requires_grad_()
    losses = on_groups(objective, z, y, t, mask)
    losses.sum().backward()
    assert z.grad is not None
    assert z.grad[~mask].tolist() == [0.0] * int((~mask).sum())
    return [losses.detach(), *(slope[kept] for slope, kept in zip(z.grad, mask, strict=True))]


def same(found: Rows, expected: Rows) -> None:
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fill", [math.nan, math.inf, -math.inf, 1e30, 5.0])
def test_padding_counts_for_nothing(objective: Objective, fill: float) -> None:
    """Whatever lies in the padding, and however wide it is, losses are the same and its gradient is exactly 0."""
    plain = run(objective, *rows(), fill=0.0)
    assert all(one.isfinite().all() for one in plain)
    same(run(objective, *rows(), fill=fill), plain)
    same(run(objective, *rows(), fill=fill, wider=5), plain)


def test_a_group_does_not_see_its_neighbours(objective: Objective) -> None:
    """A group alone has the loss and the gradient that it has in a batch."""
    together = run(objective, *rows())
    for group in range(len(SIZES)):
        loss, gradient = run(objective, *([values[group]] for values in rows()))
        same([loss, gradient], [together[0][group : group + 1], together[group + 1]])


def test_a_group_of_padding_alone_is_a_zero_in_the_graph(objective: Objective) -> None:
    """No document at all: loss 0 and gradient 0, so that a rank without rows takes its backward pass."""
    nothing = torch.full((2, 3), math.nan)
    scores = nothing.clone().requires_grad_()
    losses = on_groups(objective, scores, nothing, nothing, torch.zeros(2, 3, dtype=torch.bool))
    losses.sum().backward()
    assert scores.grad is not None
    assert (losses.tolist(), scores.grad.tolist()) == ([0, 0], [[0, 0, 0]] * 2)


def test_the_order_of_documents_does_not_matter(objective: Objective) -> None:
    """Permuted documents give the same loss and the permuted gradient, equal scores included."""
    for scores in (rows()[0], [torch.zeros(size) for size in SIZES]):
        _, labels, teacher = rows()
        loss, *gradients = run(objective, scores, labels, teacher)
        generator = torch.Generator().manual_seed(1)
        orders = [torch.randperm(size, generator=generator) for size in SIZES]
        moved = [[one[order] for one, order in zip(part, orders, strict=True)] for part in (scores, labels, teacher)]
        permuted = [gradient[order] for gradient, order in zip(gradients, orders, strict=True)]
        if scores[0].any():
            same(run(objective, *moved), [loss, *permuted])
        else:
            # Of documents with one score and one label LambdaLoss ranks either first: their gradients may be swapped.
            same(run(objective, *moved)[:1], [loss])


@pytest.mark.parametrize("objective", SHIFT_INVARIANT, ids=str)
def test_a_constant_changes_nothing_where_declared(objective: Objective) -> None:
    """Scores moved by a constant per group give the same loss, and a bias has no gradient."""
    scores, labels, teacher = rows()
    assert objective.shift_invariant
    still = run(objective, scores, labels, teacher)
    shifted = run(objective, [one + 4.0 * place for place, one in enumerate(scores)], labels, teacher)
    torch.testing.assert_close(shifted[0], still[0], rtol=1e-5, atol=1e-5)
    assert [float(gradient.sum()) for gradient in still[1:]] == pytest.approx([0] * len(SIZES), abs=1e-5)


@pytest.mark.parametrize("objective", ABSOLUTE, ids=str)
def test_a_constant_matters_elsewhere(objective: Objective) -> None:
    """An objective that is not declared invariant moves with the constant, in every group."""
    scores, labels, teacher = rows()
    assert not objective.shift_invariant
    still, moved = (run(objective, [one + shift for one in scores], labels, teacher) for shift in (0.0, 4.0))
    assert ((still[0] - moved[0]).abs() > 1e-2).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_losses_are_computed_in_float32(objective: Objective, dtype: torch.dtype) -> None:
    """Scores of any float type, under bf16 autocast or not, give exactly the loss of the same scores in float32."""
    (scores, labels, teacher), mask = rows(), torch.ones(1, 6, dtype=torch.bool)
    z = scores[2][None].to(dtype).requires_grad_()
    expected = on_groups(objective, z.float(), labels[2][None], teacher[2][None], mask)
    with torch.autocast("cpu", torch.bfloat16):
        found = on_groups(objective, z, labels[2][None], teacher[2][None], mask)
    assert found.dtype == torch.float32
    assert found.tolist() == expected.tolist()
    (gradient,) = torch.autograd.grad(found.sum(), z)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


class Products(GroupObjective):
    """A stranger's objective, made of a matrix product, which autocast would compute in bfloat16."""

    name = "products"
    shift_invariant = False
    needs = Needs()

    def losses(self, groups: PaddedGroups) -> Tensor:
        return (groups.scores @ groups.scores.T).diagonal()


def test_autocast_does_not_reach_a_strangers_objective() -> None:
    """What a subclass computes is computed in float32 too."""
    scores, mask = rows()[0][2][None], torch.ones(1, 6, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        found = Products()(scores, None, None, mask)
    assert isinstance(Products(), Objective)
    torch.testing.assert_close(found, scores.square().sum(-1), rtol=1e-6, atol=0)


def test_extreme_scores_have_finite_gradients(objective: Objective) -> None:
    """Scores of plus and minus 10,000 neither overflow nor lose their gradient to a NaN."""
    _, labels, teacher = rows()
    wild = [10_000.0 * (1 - 2 * (torch.arange(size) % 2)) for size in SIZES]
    assert all(one.isfinite().all() for one in run(objective, wild, labels, teacher))


def test_the_declared_number_of_documents_is_the_least_that_can_teach(objective: Objective) -> None:
    """One document fewer gives loss 0 and gradient 0; as many give a gradient, where one is better than the other."""
    scores, labels, teacher = torch.tensor([0.5, 1.5]), torch.tensor([1.0, 0.0]), torch.tensor([2.0, -1.0])
    docs = objective.needs.docs
    loss, gradient = run(objective, [scores[:docs]], [labels[:docs]], [teacher[:docs]])
    assert loss.item() > 0
    assert gradient.abs().max() > 1e-3
    if objective.shift_invariant:
        loss, gradient = run(objective, [scores[:1]], [labels[:1]], [teacher[:1]])
        assert (loss.item(), gradient.item()) == (0, 0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kl_is_zero_only_for_the_teachers_distribution(temperature: float) -> None:
    """A student that equals its teacher up to a constant has loss 0 whatever the other queries hold; else more."""
    _, labels, teacher = rows()
    objective = KL(teacher_temperature=temperature, student_temperature=temperature)
    matching = run(objective, [one + 3.0 * place for place, one in enumerate(teacher)], labels, teacher)
    assert matching[0].abs().max() < 1e-5
    assert max(float(gradient.abs().max()) for gradient in matching[1:]) < 1e-5
    # Of one document there is one distribution.
    other = run(objective, [one.flip(0) for one in teacher], labels, teacher)[0]
    assert [loss > 1e-2 for loss in other.tolist()] == [size > 1 for size in SIZES]


def test_targets_are_constants(objective: Objective) -> None:
    """No gradient flows into labels or a teacher's scores, though both may be parts of a graph."""
    _, (labels, *_), (teacher, *_) = rows()
    targets = [labels[None].requires_grad_(), teacher[None].requires_grad_()]
    scores = torch.zeros(1, 4, requires_grad=True)
    on_groups(objective, scores, *targets, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert [one.grad for one in targets] == [None, None]


def test_what_is_needed_is_what_is_read(objective: Objective) -> None:
    """Without a target that it declares an objective raises; without the others it does not care."""
    (scores, *_), (labels, *_), (teacher, *_) = rows()
    full: dict[str, Tensor | None] = {"labels": labels[None], "teacher": teacher[None]}
    for field, needed in (("labels", objective.needs.labels), ("teacher", objective.needs.scores)):
        targets = full | {field: None}
        arguments = (scores[None], targets["labels"], targets["teacher"], torch.ones(1, 4, dtype=torch.bool))
        if needed:
            with pytest.raises(InputError, match="labels" if field == "labels" else "scores"):
                on_groups(objective, *arguments)
        else:
            assert on_groups(objective, *arguments).isfinite().all()
