"""Objectives give what torch, sentence-transformers and the published numbers give, group by group."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import ListNet, SoftmaxCE
from rerank_trainers.objectives.pairwise import LambdaLoss, RankNet
from rerank_trainers.objectives.pointwise import BCE, MSE

SIZES = (5, 2, 9, 3, 7, 4)


def served(groups: list[Tensor]) -> Any:
    """A cross-encoder of sentence-transformers that knows the score of each document ``"GROUP DOC"``."""
    from sentence_transformers import CrossEncoder

    class Scores(CrossEncoder):
        num_labels = 1
        device = torch.device("cpu")

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def preprocess(self, inputs: Any, **_: object) -> dict[str, Tensor]:
            places = [tuple(map(int, doc.split())) for _, doc in inputs]
            return {"scores": torch.stack([groups[group][doc] for group, doc in places])}

        def forward(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
            return tokens

    return Scores()


@pytest.fixture(scope="module")
def losses() -> ModuleType:
    """sentence-transformers' losses of cross-encoders."""
    return pytest.importorskip("sentence_transformers.cross_encoder.losses", reason="sentence-transformers is missing")


def drawn(seed: int, levels: int, positives: int | None = None) -> tuple[list[Tensor], list[Tensor]]:
    """Scores and labels of groups whose labels are not all equal; ``positives`` of them 1 and the others 0 if given."""
    generator = torch.Generator().manual_seed(seed)
    scores = [2 * torch.randn(size, generator=generator) for size in SIZES]
    labels = []
    for size in SIZES:
        values = torch.randint(levels, (size,), generator=generator) / (levels - 1)
        values[:2] = torch.tensor([1.0, 0.0])
        if positives is not None:
            values = (torch.arange(size) < positives).float()
        labels.append(values[torch.randperm(size, generator=generator)])
    return scores, labels


def ours(
    objective: Objective, scores: list[Tensor], labels: list[Tensor] | None = None, teacher: list[Tensor] | None = None
) -> tuple[list[float], list[Tensor]]:
    """The loss of each group, and the gradient of its scores."""
    padded = pad_sequence(scores, batch_first=True, padding_value=math.nan).requires_grad_()
    targets = [rows and pad_sequence(rows, batch_first=True, padding_value=math.nan) for rows in (labels, teacher)]
    found = objective(padded, targets[0], targets[1], ~padded.isnan())
    found.sum().backward()
    assert padded.grad is not None
    return found.tolist(), [row[: len(one)] for row, one in zip(padded.grad, scores, strict=True)]


def close(found: tuple[list[float], list[Tensor]], expected: list[Tensor], leaves: list[Tensor]) -> None:
    gradients = torch.autograd.grad(sum(expected[1:], start=expected[0]), leaves, retain_graph=True)
    assert found[0] == pytest.approx([loss.item() for loss in expected], rel=1e-6, abs=1e-6)
    for mine, theirs in zip(found[1], gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def leaves_of(scores: list[Tensor]) -> list[Tensor]:
    return [one.clone().requires_grad_() for one in scores]


@pytest.mark.parametrize("levels", [2, 4])
@pytest.mark.parametrize("k", [None, 1, 3])
def test_lambda_is_sentence_transformers(losses: ModuleType, k: int | None, levels: int) -> None:
    """NDCG-Loss2++ with mu 10, log2 and gain 2^y - 1, one query at a time, value and gradient."""
    scores, labels = drawn(1, levels)
    leaves = leaves_of(scores)
    loss = losses.LambdaLoss(served(leaves), weighting_scheme=losses.NDCGLoss2PPScheme(), k=k)
    expected = [
        loss([["q"], [[f"{group} {doc}" for doc in range(size)]]], [labels[group]]) for group, size in enumerate(SIZES)
    ]
    close(ours(LambdaLoss(k=k), scores, labels), expected, leaves)


def test_lambda_of_grades_is_sentence_transformers(losses: ModuleType) -> None:
    """`max_grade=3` on labels from 0 to 1 is the loss of the grades 0 to 3."""
    scores, labels = drawn(2, 4)
    leaves = leaves_of(scores)
    loss = losses.LambdaLoss(served(leaves))
    expected = [
        loss([["q"], [[f"{group} {doc}" for doc in range(size)]]], [labels[group] * 3])
        for group, size in enumerate(SIZES)
    ]
    close(ours(LambdaLoss(max_grade=3), scores, labels), expected, leaves)


def test_ranknet_of_binary_labels_is_sentence_transformers(losses: ModuleType) -> None:
    """With labels 0 and 1 every pair weighs the same, which is RankNetLoss in natural logarithms."""
    scores, labels = drawn(3, 2)
    leaves = leaves_of(scores)
    loss = losses.RankNetLoss(served(leaves), reduction_log="natural")
    expected = [
        loss([["q"], [[f"{group} {doc}" for doc in range(size)]]], [labels[group]]) for group, size in enumerate(SIZES)
    ]
    for objective in (RankNet(), RankNet(normalise="pairs")):
        close(ours(objective, scores, labels), expected, leaves)


def test_listnet_is_sentence_transformers(losses: ModuleType) -> None:
    """With tau 1 it is ListNetLoss."""
    scores, labels = drawn(4, 4)
    leaves = leaves_of(scores)
    loss = losses.ListNetLoss(served(leaves))
    expected = [
        loss([["q"], [[f"{group} {doc}" for doc in range(size)]]], [labels[group]]) for group, size in enumerate(SIZES)
    ]
    close(ours(ListNet(tau=1), scores, labels), expected, leaves)


@pytest.mark.parametrize("weight", [None, 4.0])
def test_bce_is_sentence_transformers(losses: ModuleType, weight: float | None) -> None:
    """BinaryCrossEntropyLoss on one query's documents, graded labels and a weight of positives included."""
    scores, labels = drawn(5, 4)
    leaves = leaves_of(scores)
    loss = losses.BinaryCrossEntropyLoss(served(leaves), pos_weight=None if weight is None else torch.tensor(weight))
    expected = [
        loss([["q"] * size, [f"{group} {doc}" for doc in range(size)]], labels[group])
        for group, size in enumerate(SIZES)
    ]
    close(ours(BCE(pos_weight=weight), scores, labels), expected, leaves)


def test_mse_is_sentence_transformers(losses: ModuleType) -> None:
    """MSELoss on raw scores is ours against a teacher's logits; with a sigmoid, ours against probabilities."""
    scores, labels = drawn(6, 4)
    for objective, activation in (
        (MSE(teacher_space="logit"), torch.nn.Identity()),
        (MSE(teacher_space="probability"), torch.nn.Sigmoid()),
    ):
        leaves = leaves_of(scores)
        loss = losses.MSELoss(served(leaves), activation_fn=activation)
        expected = [
            loss([["q"] * size, [f"{group} {doc}" for doc in range(size)]], labels[group])
            for group, size in enumerate(SIZES)
        ]
        close(ours(objective, scores, teacher=labels), expected, leaves)


def test_margin_mse_of_labelled_pairs_is_sentence_transformers(losses: ModuleType) -> None:
    """One positive against each negative is MarginMSELoss; of two documents, all pairs are that one pair."""
    scores, labels = drawn(7, 2, positives=1)
    teacher, _ = drawn(8, 2)
    leaves = leaves_of(scores)
    loss = losses.MarginMSELoss(served(leaves))
    expected = []
    for group, values in enumerate(labels):
        order = values.argsort(descending=True).tolist()
        docs = [[f"{group} {doc}"] for doc in order]
        expected.append(loss([["q"], *docs], teacher[group][order][None]))
    close(ours(MarginMSE(pairs="labelled"), scores, labels, teacher), expected, leaves)

    pair = SIZES.index(2)
    assert ours(MarginMSE(), scores, teacher=teacher)[0][pair] == pytest.approx(expected[pair].item(), rel=1e-6)


@pytest.mark.parametrize(("teacher_temperature", "student_temperature"), [(1.0, 1.0), (3.0, 0.5)])
def test_kl_is_sentence_transformers(teacher_temperature: float, student_temperature: float) -> None:
    """DistillKLDivLoss with two temperatures, on embeddings of one dimension whose product is the score."""
    embedding_losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    scores, _ = drawn(9, 2)
    teacher, _ = drawn(10, 2)
    leaves = leaves_of(scores)
    loss = embedding_losses.DistillKLDivLoss(
        torch.nn.Identity(),
        similarity_fct=lambda query, doc: (query * doc).sum(-1),
        teacher_temperature=teacher_temperature,
        student_temperature=student_temperature,
    )
    expected = [
        loss.compute_loss_from_embeddings([torch.ones(1, 1), *(one.view(1, 1) for one in leaf)], target[None])
        for leaf, target in zip(leaves, teacher, strict=True)
    ]
    close(ours(KL(teacher_temperature, student_temperature), scores, teacher=teacher), expected, leaves)


def test_softmax_ce_is_torch_cross_entropy() -> None:
    """One positive: its index as the class. Several: their share as class probabilities. Each: one class at a time."""
    scores, labels = drawn(11, 2, positives=1)
    leaves = leaves_of(scores)
    expected = [functional.cross_entropy(z, y.argmax()) for z, y in zip(leaves, labels, strict=True)]
    for objective in (SoftmaxCE(), SoftmaxCE(multi_positive="each"), SoftmaxCE(target="softmax_of_labels")):
        close(ours(objective, scores, labels), expected, leaves)

    scores, labels = drawn(12, 4)
    leaves = leaves_of(scores)
    shares = [functional.cross_entropy(z, y / y.sum()) for z, y in zip(leaves, labels, strict=True)]
    close(ours(SoftmaxCE(), scores, labels), shares, leaves)

    drawings = [
        torch.stack(
            [
                functional.cross_entropy(torch.cat([z[doc, None], z[y == 0]]), torch.tensor(0))
                for doc in y.nonzero()[:, 0]
            ]
        ).mean()
        for z, y in zip(leaves, labels, strict=True)
    ]
    close(ours(SoftmaxCE(multi_positive="each"), scores, labels), drawings, leaves)


def target_of(objective: Objective, labels: list[float], teacher: list[float] | None = None) -> list[float]:
    """The distribution that a cross-entropy pulls towards: at equal scores the gradient is ``1 / docs - target``."""
    zeros = torch.zeros(len(labels))
    _, (gradient,) = ours(
        objective, [zeros], [torch.tensor(labels, dtype=torch.float32)], teacher and [torch.tensor(teacher)]
    )
    return (1 / len(labels) - gradient).tolist()


def test_targets_are_the_published_numbers() -> None:
    """RAG-Retrieval's listwise target, ListNet's leak at tau 1, and a teacher at T 0.02 (training.md §1.2 and §2)."""
    rag = [0, 0.881, 0.119, 0]
    assert target_of(SoftmaxCE(target="softmax_of_labels"), [0, 3, 1, 0]) == pytest.approx(rag, abs=5e-4)
    assert target_of(SoftmaxCE(target="softmax_of_labels", max_grade=3), [0, 1, 1 / 3, 0]) == pytest.approx(
        rag, abs=5e-4
    )
    assert target_of(ListNet(tau=1), [1, 0, 0, 0, 0, 0, 0, 0])[0] == pytest.approx(0.28, abs=5e-3)
    assert target_of(ListNet(), [1, 0, 0, 0, 0, 0, 0, 0])[0] > 0.999
    assert target_of(KL(teacher_temperature=0.02), [0, 0], [0.8, 0.6]) == pytest.approx([0.99995, 4.5e-5], abs=5e-6)


def test_ranknet_is_what_rag_retrieval_computes_and_what_it_documents() -> None:
    """Scores (3, 2, 1) of grades (0, 1, 2): its code gives 2.2935 and its README 6.8804, which we divide by 4."""
    scores, labels = [torch.tensor([3.0, 2.0, 1.0])], [torch.tensor([0.0, 1.0, 2.0])]
    assert ours(RankNet(normalise="pairs"), scores, labels)[0] == pytest.approx([2.2935], abs=5e-5)
    assert ours(RankNet(), scores, labels)[0] == pytest.approx([6.8804 / 4], abs=5e-5)
