"""CoSENT equals its formula and sentence-transformers' loss, and its mean over queries is the loss of the step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers.steps import Texts, losses_and_gradients, on_groups, with_leaves
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerank_core import InputError
from rerank_trainers.objectives.base import Needs
from rerank_trainers.objectives.registry import make_objective
from rerank_trainers.objectives.whole_step.cosent import CoSENT


def drawn(sizes: list[int], seed: int, levels: int = 4) -> Texts:
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    return Texts(
        torch.randn(len(sizes), 5, generator=generator),
        torch.randn(count, 5, generator=generator),
        sizes,
        torch.randint(levels, (count,), generator=generator) / (levels - 1),
    )


def loop(texts: Texts, temperature: float) -> Tensor:
    """One pair of documents at a time, in the float type of the vectors."""
    queries, documents = (torch.nn.functional.normalize(one, dim=-1) for one in (texts.queries, texts.documents))
    assert texts.labels is not None
    owner = [query for query, size in enumerate(texts.sizes) for _ in range(size)]
    scores = [queries[query] @ documents[doc] / temperature for doc, query in enumerate(owner)]
    total = 1 + 0 * sum(scores)
    for i, high in enumerate(texts.labels.tolist()):
        for j, low in enumerate(texts.labels.tolist()):
            if high > low:
                total = total + torch.exp(scores[j] - scores[i])
    assert isinstance(total, Tensor)
    return total.log()


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=6),
    st.sampled_from([2, 4, 1001]),
    st.sampled_from([1.0, 0.2]),
    st.integers(0, 2**31),
)
def test_every_query_has_the_loss_of_the_step(sizes: list[int], levels: int, temperature: float, seed: int) -> None:
    """Loss and gradient are the formula's over all documents, of all queries, to 1e-6; equal labels are no pair."""
    texts = drawn(sizes, seed, levels)
    found = losses_and_gradients(CoSENT(), texts, [range(len(sizes))], temperature)
    exact, leaves = with_leaves(replace(texts, queries=texts.queries.double(), documents=texts.documents.double()))
    expected = loop(exact, temperature)
    assert found[0].tolist() == pytest.approx([expected.item()] * len(sizes), rel=1e-6, abs=1e-6)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(mine.double() / len(sizes), theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 20.0, 50.0])
def test_it_is_sentence_transformers(scale: float) -> None:
    """CoSENTLoss on scored pairs: queries with one document each."""
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    texts = drawn([1] * 12, 1)
    found = losses_and_gradients(CoSENT(), texts, [range(12)], 1 / scale)
    moved, leaves = with_leaves(texts)
    loss = library.CoSENTLoss(torch.nn.Identity(), scale=scale)
    expected = loss.compute_loss_from_embeddings([moved.queries, moved.documents], texts.labels)
    assert found[0].mean().item() == pytest.approx(expected.item(), rel=1e-6)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected * 12, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=scale * 1e-6)


def test_processes_change_nothing() -> None:
    """Losses and gradients of two processes, one without a query, add up to those of the whole."""
    texts = drawn([2, 1, 3, 1], 2)
    whole = losses_and_gradients(CoSENT(), texts, [range(4)], 0.05)
    for parts in ([range(1), range(1, 4)], [range(4), range(4, 4)]):
        torch.testing.assert_close(losses_and_gradients(CoSENT(), texts, parts, 0.05), whole)


def test_equal_labels_are_a_zero_in_the_graph() -> None:
    """Nothing to compare: loss 0 and gradient 0, also for a single document."""
    for texts in (replace(drawn([2, 3], 3), labels=torch.full((5,), 0.5)), drawn([1], 3)):
        losses, *gradients = losses_and_gradients(CoSENT(), texts, [range(len(texts.sizes))], 0.02)
        assert losses.count_nonzero() == 0
        assert [int(one.count_nonzero()) for one in gradients] == [0, 0]


def test_targets() -> None:
    """Labels, or a teacher's scores of any range; ranks are refused, because ranks of two queries do not compare."""
    texts = drawn([2, 2, 1], 4)
    assert texts.labels is not None
    taught = replace(texts, labels=None, teacher=texts.labels * 30 - 10)
    teacher = CoSENT(target="teacher")
    assert teacher.of_step(taught.step()).tolist() == CoSENT().of_step(texts.step()).tolist()
    assert CoSENT().needs == Needs(labels=True, step=True)
    assert teacher.needs == Needs(scores=True, step=True)
    assert teacher.needs.score_differences
    for objective, found, field in ((CoSENT(), taught, "labels"), (teacher, texts, "scores")):
        with pytest.raises(InputError, match=f"`{field}`"):
            objective.of_step(found.step())
    with pytest.raises(InputError, match=r"target of cosent.*'order'"):
        make_objective("cosent", target="order")
    with pytest.raises(InputError, match="query and document together"):
        on_groups(CoSENT(), torch.zeros(1, 2), torch.ones(1, 2), None, torch.ones(1, 2, dtype=torch.bool))
