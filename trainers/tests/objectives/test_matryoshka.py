"""Matryoshka is the weighted mean over widths of any objective, with and without a temperature."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.steps import Texts, losses_and_gradients, with_leaves
from torch import Tensor
from torch.nn import functional

from rerank_core import InputError
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.distillation import KL, MarginMSE
from rerank_trainers.objectives.listwise import SoftmaxCE
from rerank_trainers.objectives.matryoshka import Matryoshka
from rerank_trainers.objectives.pointwise import BCE
from rerank_trainers.objectives.scaled import Scaled
from rerank_trainers.objectives.weighted import weighted_sum
from rerank_trainers.objectives.whole_step.cosent import CoSENT
from rerank_trainers.objectives.whole_step.embedding_distillation import EmbeddingDistillation
from rerank_trainers.objectives.whole_step.infonce import InfoNCE
from rerank_trainers.objectives.whole_step.similarity_distillation import SimilarityDistillation, SimilarityOrder
from rerank_trainers.objectives.whole_step.stella import Stella

SIZES = [3, 1, 4, 2]
WIDTH = 8
INNER: list[Objective] = [
    InfoNCE(),
    InfoNCE(directions=("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")),
    CoSENT(),
    SoftmaxCE(),
    KL(),
    MarginMSE(),
    SimilarityDistillation(),
    SimilarityOrder(),
    Scaled(weighted_sum([(1, InfoNCE()), (0.5, KL())]), 0.05),
]


def drawn(sizes: list[int] = SIZES, seed: int = 0) -> Texts:
    generator = torch.Generator().manual_seed(seed)
    counts = (len(sizes), sum(sizes))
    queries, documents, *taught = (torch.randn(count, WIDTH, generator=generator) for count in counts * 2)
    labels, teacher = torch.rand(2, counts[1], generator=generator)
    teacher_vectors = {"query": taught[0], "document": taught[1]}
    return Texts(queries, documents, sizes, labels.round(), teacher, teacher_vectors=teacher_vectors)  # type: ignore[arg-type]


def cut(texts: Texts, width: int) -> Texts:
    return replace(texts, queries=texts.queries[:, :width], documents=texts.documents[:, :width])


@pytest.mark.parametrize("inner", INNER, ids=str)
def test_it_is_the_mean_over_widths(inner: Objective) -> None:
    """Losses and gradients are those of the cut and normalised vectors, with equal or given weights."""
    for weights, shares in ((None, (1 / 3, 1 / 3, 1 / 3)), ((2, 1, 1), (0.5, 0.25, 0.25))):
        objective = Matryoshka(inner, (8, 4, 2), weights)
        found = losses_and_gradients(objective, drawn(), [range(4)], 0.5)
        texts, leaves = with_leaves(drawn())
        expected = torch.zeros(4)
        for width, share in zip((8, 4, 2), shares, strict=True):
            expected = expected + share * inner.of_step(cut(texts, width).step(None, 0.5))
        torch.testing.assert_close(found[0], expected.detach())
        torch.testing.assert_close(found[1:], list(torch.autograd.grad(expected.sum(), leaves)), rtol=1e-5, atol=1e-6)
        assert objective.name == inner.name
        assert objective.needs == inner.needs
        assert objective.shift_invariant


def test_it_is_sentence_transformers_divided_by_the_widths() -> None:
    """MatryoshkaLoss of MultipleNegativesRankingLoss sums over the widths."""
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    texts = replace(drawn([2] * 5), labels=torch.tensor([1.0, 0] * 5))
    found = losses_and_gradients(Matryoshka(InfoNCE(), (8, 4)), texts, [range(5)], 0.05)
    moved, leaves = with_leaves(texts)

    class Columns(torch.nn.Module):
        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            return dict(features)

        def get_embedding_dimension(self) -> int:
            return WIDTH

    model: Any = Columns()
    loss = library.MatryoshkaLoss(model, library.MultipleNegativesRankingLoss(model), [8, 4])
    columns = [moved.queries, *moved.documents.view(5, 2, -1).unbind(1)]
    expected = loss([{"sentence_embedding": column, "token_embeddings": column[:, None]} for column in columns], None)
    assert found[0].mean().item() == pytest.approx(expected.item() / 2, rel=1e-6)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected / 2 * 5, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=5e-6)


def test_the_teachers_width_is_read_once() -> None:
    """Stella as in RAG-Retrieval: 10 * whole vectors + the mean over widths of the two losses of similarities; also in
    a sum and under a temperature."""
    step = drawn().step(None, 0.5)
    similarities = weighted_sum([(200, SimilarityDistillation()), (20, SimilarityOrder())])
    expected = 10 * EmbeddingDistillation().of_step(step) + Matryoshka(similarities, (8, 4)).of_step(step)
    torch.testing.assert_close(Matryoshka(Stella(), (8, 4)).of_step(step), expected)
    torch.testing.assert_close(Matryoshka(Scaled(Stella(), 0.1), (8, 4)).of_step(step), expected)
    added = weighted_sum([(2, Stella()), (1, InfoNCE())])
    torch.testing.assert_close(
        Matryoshka(added, (8, 4)).of_step(step), 2 * expected + Matryoshka(InfoNCE(), (8, 4)).of_step(step)
    )
    with pytest.raises(InputError, match="no effect on 'embed_distill'"):
        Matryoshka(EmbeddingDistillation(), (8, 4))


@pytest.mark.parametrize("inner", [InfoNCE(), CoSENT(), KL(), SoftmaxCE(), MarginMSE()], ids=str)
def test_a_temperature_divides_all_similarities(inner: Objective) -> None:
    """`Scaled` has the losses of a step with that temperature; it replaces the step's."""
    expected = inner.of_step(drawn().step(None, 0.05)).tolist()
    for objective in (Scaled(inner, 0.05), Scaled(Scaled(inner, 0.05), 7)):
        assert objective.of_step(drawn().step()).tolist() == expected
    assert (Scaled(inner, 2).name, Scaled(inner, 2).needs) == (inner.name, inner.needs)
    assert Scaled(inner, 2).shift_invariant
    assert not Scaled(BCE(), 2).shift_invariant


def test_wrappers_are_objectives() -> None:
    """They compare, pickle and nest in sums; lists of a configuration become tuples."""
    objective = Matryoshka(Scaled(InfoNCE(), 0.02), [8, 4], [3, 1])  # type: ignore[arg-type]
    assert isinstance(objective, Objective)
    assert objective == Matryoshka(Scaled(InfoNCE(), 0.02), (8, 4), (0.75, 0.25))
    assert Matryoshka(InfoNCE(), (8, 4), ()) == Matryoshka(InfoNCE(), (8, 4))
    assert pickle.loads(pickle.dumps(objective)) == objective
    losses = weighted_sum([(2, objective)]).of_step(drawn().step())
    torch.testing.assert_close(losses, 2 * objective.of_step(drawn().step()))


@pytest.mark.parametrize(
    ("dims", "weights", "words"),
    [
        *((dims, None, "different positive integers") for dims in ([], [8, 8], [8, 0], [8, 4.0], [True], "84", 8)),
        *(([8, 4], weights, "one weight each") for weights in ([1], [1, 1, 1], 2)),
        *(([8, 4], [1, weight], "weight of the width 4") for weight in (0, -1, math.nan, "1")),
    ],
)
def test_widths_and_weights_that_cannot_be_are_refused(dims: Any, weights: Any, words: str) -> None:
    """Before anything is trained; a width above the model's is an error of the first step."""
    with pytest.raises(InputError, match=words):
        Matryoshka(InfoNCE(), dims, weights)


def test_wider_than_the_model_and_bad_temperatures() -> None:
    """The error names both widths; a temperature is above 0."""
    with pytest.raises(InputError, match="width is 16, and the vectors have 8"):
        Matryoshka(InfoNCE(), (4, 16)).of_step(drawn().step())
    for temperature in (0, -0.1, math.inf):
        with pytest.raises(InputError, match="temperature of infonce"):
            Scaled(InfoNCE(), temperature)


@pytest.mark.parametrize("objective", [KL(), KL(2.0, 0.5), MarginMSE(), SoftmaxCE()], ids=str)
def test_objectives_of_own_documents_read_cosines(objective: Objective) -> None:
    """On a step of vectors they are what they are on scores, whatever the other queries hold (RAG-Retrieval's KL runs
    over the shuffled batch, so that a perfect student of each query still has a loss)."""
    texts = drawn()
    assert texts.labels is not None
    assert texts.teacher is not None
    found = losses_and_gradients(objective, texts, [range(4)], 0.1)
    moved, leaves = with_leaves(texts)
    owner = torch.repeat_interleave(torch.arange(4), torch.tensor(SIZES))
    scores = functional.cosine_similarity(moved.queries[owner], moved.documents, dim=-1) / 0.1
    losses = []
    for group in range(4):
        rows = owner == group
        one = [values[rows][None] for values in (scores, texts.labels, texts.teacher)]
        losses.append(objective(*one, torch.ones(1, SIZES[group], dtype=torch.bool)))  # type: ignore[operator]
    expected = torch.cat(losses)
    torch.testing.assert_close(found[0], expected.detach())
    torch.testing.assert_close(found[1:], list(torch.autograd.grad(expected.sum(), leaves)), rtol=1e-5, atol=1e-5)

    perfect = replace(texts, teacher=scores.detach() + 3 * owner)
    if not isinstance(objective, SoftmaxCE) and objective != KL(2.0, 0.5):
        assert objective.of_step(perfect.step(None, 0.1)).abs().max() < 1e-5
