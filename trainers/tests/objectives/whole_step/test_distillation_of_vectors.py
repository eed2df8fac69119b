"""Distillation from a teacher's vectors: of vectors, of similarities and of their order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.steps import Texts, losses_and_gradients, with_leaves
from torch import Tensor
from torch.nn import functional

from rerank_core import InputError
from rerank_trainers.objectives.base import Needs, Objective
from rerank_trainers.objectives.registry import make_objective
from rerank_trainers.objectives.whole_step import blocks
from rerank_trainers.objectives.whole_step.embedding_distillation import EmbeddingDistillation
from rerank_trainers.objectives.whole_step.similarity_distillation import SimilarityDistillation, SimilarityOrder
from rerank_trainers.objectives.whole_step.stella import Stella

WIDTH = 6
EVERY: list[Objective] = [
    EmbeddingDistillation(),
    EmbeddingDistillation(distance="mse"),
    EmbeddingDistillation(distance="l2"),
    SimilarityDistillation(),
    SimilarityOrder(),
    SimilarityOrder(pairs=40, comparisons=5),
    Stella(),
]


def drawn(sizes: list[int], seed: int, teacher_width: int = WIDTH) -> Texts:
    generator = torch.Generator().manual_seed(seed)
    shapes = (len(sizes), sum(sizes))
    queries, documents = (torch.randn(count, WIDTH, generator=generator) for count in shapes)
    taught = [torch.randn(count, teacher_width, generator=generator) for count in shapes]
    return Texts(
        queries,
        documents,
        sizes,
        query_texts=torch.randint(2**62, (shapes[0],), generator=generator),
        document_texts=torch.randint(2**62, (shapes[1],), generator=generator),
        teacher_vectors={"query": taught[0], "document": taught[1]},
    )


def all_vectors(texts: Texts) -> tuple[Tensor, Tensor]:
    """The model's and the teacher's vectors of all queries, then all documents, of length 1."""
    assert texts.teacher_vectors is not None
    return (
        functional.normalize(torch.cat([texts.queries, texts.documents]), dim=-1),
        functional.normalize(torch.cat(list(texts.teacher_vectors.values())), dim=-1),
    )


def compare(found: list[Tensor], expected: Tensor, leaves: list[Tensor], groups: int) -> None:
    """The mean loss of the groups, and its gradient, are the expected ones."""
    assert found[0].mean().item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-7)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(mine / groups, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "mse", "l2"])
def test_vectors_are_compared_as_in_sentence_transformers(distance: Any) -> None:
    """EmbedDistillLoss on a query and two documents: one teacher's vector for each text."""
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    texts = drawn([2] * 5, 1)
    assert texts.teacher_vectors is not None
    found = losses_and_gradients(EmbeddingDistillation(distance), texts, [range(5)], 0.02)

    moved, leaves = with_leaves(texts)
    mine = [moved.queries, *moved.documents.view(5, 2, -1).unbind(1)]
    taught = [texts.teacher_vectors["query"], *texts.teacher_vectors["document"].view(5, 2, -1).unbind(1)]
    loss = library.EmbedDistillLoss(torch.nn.Identity(), distance_metric=distance)
    expected = loss.compute_loss_from_embeddings([functional.normalize(one, dim=-1) for one in mine], taught)
    compare(found, expected, leaves, 5)


def test_each_group_counts_its_own_texts() -> None:
    """Ragged groups: the mean over a query and its documents, whatever the other groups hold."""
    texts = drawn([3, 1, 2], 2)
    mine, taught = all_vectors(texts)
    distance = 1 - (mine * taught).sum(-1)
    owner = torch.tensor([0, 1, 2, 0, 0, 0, 1, 2, 2])
    expected = [distance[owner == group].mean().item() for group in range(3)]
    assert EmbeddingDistillation().of_step(texts.step()).tolist() == pytest.approx(expected, rel=1e-6)
    assert texts.teacher_vectors is not None
    of_documents = replace(texts, teacher_vectors={"document": texts.teacher_vectors["document"]})
    expected = [distance[3:][owner[3:] == group].mean().item() for group in range(3)]
    assert EmbeddingDistillation().of_step(of_documents.step()).tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("teacher_width", [WIDTH, 9])
def test_similarities_are_compared_as_in_rag_retrieval(teacher_width: int) -> None:
    """The mean squared difference of the matrices of cosines of all texts, for teachers of any width."""
    texts = drawn([2] * 4, 3, teacher_width)
    found = losses_and_gradients(SimilarityDistillation(), texts, [range(4)], 0.02)
    moved, leaves = with_leaves(texts)
    mine, taught = all_vectors(moved)
    compare(found, functional.mse_loss(mine @ mine.T, taught @ taught.T), leaves, 4)


def test_ragged_groups_have_one_weight() -> None:
    """A group's loss is the mean over its own rows of the matrix."""
    texts = drawn([3, 1, 2], 4)
    mine, taught = all_vectors(texts)
    rows = (mine @ mine.T - taught @ taught.T).square().mean(1)
    owner = torch.tensor([0, 1, 2, 0, 0, 0, 1, 2, 2])
    expected = [rows[owner == group].mean().item() for group in range(3)]
    assert SimilarityDistillation().of_step(texts.step()).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("teacher_width", [WIDTH, 9])
def test_the_order_of_few_texts_is_that_of_all_pairs_of_pairs(teacher_width: int) -> None:
    """Each two pairs of texts once, by the definition: relu(margin - (cosine of the teacher's better pair - other))."""
    texts = drawn([1, 2], 5, teacher_width)
    found = losses_and_gradients(SimilarityOrder(), texts, [range(2)], 0.02)
    moved, leaves = with_leaves(texts)
    mine, taught = all_vectors(moved)
    losses = []
    for (a, b), (c, d) in itertools.combinations(itertools.combinations(range(5), 2), 2):
        sign = 1 if taught[a] @ taught[b] > taught[c] @ taught[d] else -1
        losses.append(functional.relu(0.015 - sign * (mine[a] @ mine[b] - mine[c] @ mine[d])))
    compare(found, torch.stack(losses).mean(), leaves, 2)


def test_what_the_teacher_does_not_distinguish_is_left_out() -> None:
    """Pairs of equal texts are equal for the teacher; if all are, the loss is a 0 in the graph."""
    texts = drawn([1, 1], 6)
    same = torch.ones(2, WIDTH)
    flat = replace(texts, teacher_vectors={"query": same, "document": same})
    losses, *gradients = losses_and_gradients(SimilarityOrder(), flat, [range(2)], 1.0)
    assert losses.tolist() == [0, 0]
    assert [int(one.count_nonzero()) for one in gradients] == [0, 0]


def test_drawn_pairs_depend_on_the_texts_alone() -> None:
    """The same step has the same loss each time and in each order of its rows; other texts have other pairs; and it is
    near the loss of all pairs."""
    texts = drawn([2] * 12, 7)
    assert texts.query_texts is not None
    assert texts.document_texts is not None
    assert texts.teacher_vectors is not None
    sampled, everything = SimilarityOrder(pairs=500, comparisons=50), SimilarityOrder(pairs=10**6, comparisons=10**6)
    state = torch.get_rng_state()
    loss = sampled.of_step(texts.step())[0].item()
    assert torch.equal(state, torch.get_rng_state())
    assert sampled.of_step(texts.step())[0].item() == loss
    back = torch.arange(11, -1, -1)
    documents = torch.arange(24).view(12, 2)[back].flatten()
    turned = Texts(
        texts.queries[back], texts.documents[documents], texts.sizes,
        query_texts=texts.query_texts[back], document_texts=texts.document_texts[documents],
        teacher_vectors={"query": texts.teacher_vectors["query"][back],
                         "document": texts.teacher_vectors["document"][documents]},
    )  # fmt: skip
    assert sampled.of_step(turned.step())[0].item() == pytest.approx(loss, rel=1e-6)
    assert sampled.of_step(replace(texts, query_texts=texts.query_texts + 1).step())[0].item() != loss
    assert loss == pytest.approx(everything.of_step(texts.step())[0].item(), rel=0.1)


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_processes_and_blocks_change_nothing(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradients of two processes, one without a query, and of small blocks are those of the whole."""
    texts = drawn([3, 1, 2, 4], 8)
    whole = losses_and_gradients(objective, texts, [range(4)], 0.1)
    assert whole[0].count_nonzero() == 4
    for rows in (64, 3):
        monkeypatch.setattr(blocks, "ROWS", rows)
        for parts in ([range(4)], [range(1), range(1, 4)], [range(4, 4), range(4)]):
            torch.testing.assert_close(losses_and_gradients(objective, texts, parts, 0.1), whole, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("objective", EVERY, ids=str)
def test_a_student_that_equals_the_teacher_loses_nothing(objective: Objective) -> None:
    """All distances are 0; of the order only the margin between near pairs remains; the temperature has no effect."""
    texts = drawn([2, 2, 1], 9)
    assert texts.teacher_vectors is not None
    unit = {side: functional.normalize(values, dim=-1) for side, values in texts.teacher_vectors.items()}
    same = replace(texts, queries=unit["query"], documents=unit["document"], teacher_vectors=unit)  # type: ignore[arg-type]
    losses = objective.of_step(same.step())
    limit = 20 * 0.015 if isinstance(objective, Stella) else 0.015 if isinstance(objective, SimilarityOrder) else 1e-6
    assert 0 <= losses.max() < limit
    torch.testing.assert_close(objective.of_step(texts.step(None, 0.02)), objective.of_step(texts.step()))


def test_stella_is_the_sum_of_its_three_losses() -> None:
    """10, 200 and 20 times; the weights are options."""
    step = drawn([2, 1], 10).step()
    parts = [EmbeddingDistillation(), SimilarityDistillation(), SimilarityOrder()]
    losses = torch.stack([part.of_step(step) for part in parts])
    torch.testing.assert_close(Stella().of_step(step), torch.tensor([10.0, 200, 20]) @ losses)
    torch.testing.assert_close(Stella(1, 2, 3).of_step(step), torch.tensor([1.0, 2, 3]) @ losses)
    assert Stella().needs == Needs(step=True, vectors=True, teacher_vectors=True, teacher_width=True)


def test_other_widths_are_an_error_that_names_both() -> None:
    """Vectors cannot be compared with a wider teacher's; similarities can."""
    step = drawn([2, 1], 11, teacher_width=9).step()
    for objective in (EmbeddingDistillation(), Stella()):
        with pytest.raises(InputError, match=r"6 values and the teacher's 9.*projection.*similarity_distill"):
            objective.of_step(step)
    for objective in (EmbeddingDistillation(), SimilarityDistillation(), SimilarityOrder(), Stella()):
        with pytest.raises(InputError, match="a teacher's vectors, and the batch has none"):
            objective.of_step(replace(drawn([2, 1], 11), teacher_vectors=None).step())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("embed_distill", {"distance": "dot"}),
        *(("similarity_order", {"margin": value}) for value in (0, -1, "0.1")),
        *(("similarity_order", {"pairs": value}) for value in (1, 2.0, True)),
        ("similarity_order", {"comparisons": 0}),
        *(("stella", {option: 0}) for option in ("cosine", "similarity", "order", "margin", "pairs", "comparisons")),
    ],
)
def test_options_that_cannot_be_are_refused(name: str, options: dict[str, Any]) -> None:
    """The error names the option and the value."""
    option, value = next(iter(options.items()))
    with pytest.raises(InputError, match=option) as caught:
        make_objective(name, **options)
    assert repr(value) in str(caught.value)
