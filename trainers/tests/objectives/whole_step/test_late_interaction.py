"""The objectives of a step on the trainer's own comparisons: MaxSim of token vectors, and cosines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.steps import Texts
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from rerank_core import InputError
from rerank_trainers.loop.comparison import Counts, comparison_of
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.distillation import KL
from rerank_trainers.objectives.matryoshka import Matryoshka
from rerank_trainers.objectives.step import Step
from rerank_trainers.objectives.whole_step import blocks
from rerank_trainers.objectives.whole_step.cosent import CoSENT
from rerank_trainers.objectives.whole_step.infonce import InfoNCE
from rerank_trainers.objectives.whole_step.stella import Stella

QUERIES, DOCS, WIDTH = 5, 3, 6
QUERY_TOKENS, DOCUMENT_TOKENS = [3, 1, 4, 2, 2], [5, 1, 2, 7, 3, 3, 4, 2, 6, 1, 2, 3, 8, 2, 1]


def tokens(counts: list[int], seed: int) -> Tensor:
    vectors = torch.randn(sum(counts), WIDTH, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(vectors, dim=-1)


def step_of(queries: Tensor, documents: Tensor, own: range = range(QUERIES), temperature: float = 0.1) -> Step:
    """The step of a late-interaction model: each query with one positive and two negatives."""
    labels = (torch.arange(QUERIES * DOCS) % DOCS == 0).float()
    one_each = Texts(torch.ones(QUERIES, 1), torch.ones(QUERIES * DOCS, 1), [DOCS] * QUERIES, labels, labels / 2)
    step = one_each.step(own, temperature)
    members = step.all_members()
    counts = Counts(QUERY_TOKENS, DOCUMENT_TOKENS, members)
    return replace(step, comparison=comparison_of({"vectors": torch.cat([queries, documents])}, counts, mean=True))


def losses_and_gradients(objective: Objective, parts: list[range]) -> list[Tensor]:
    leaves = [tokens(QUERY_TOKENS, 0).requires_grad_(), tokens(DOCUMENT_TOKENS, 1).requires_grad_()]
    losses = torch.cat([objective.of_step(step_of(*leaves, own)) for own in parts])
    return [losses.detach(), *torch.autograd.grad(losses.sum(), leaves)]


def test_infonce_is_sentence_transformers_multi_vector_loss() -> None:
    """MultiVectorMultipleNegativesRankingLoss of MeanMaxSim, on padded vectors with masks."""
    library = pytest.importorskip("sentence_transformers.multi_vector_encoder.losses")
    scoring = pytest.importorskip("sentence_transformers.multi_vector_encoder.scoring")
    found = losses_and_gradients(InfoNCE(), [range(QUERIES)])

    leaves = [tokens(QUERY_TOKENS, 0).requires_grad_(), tokens(DOCUMENT_TOKENS, 1).requires_grad_()]
    padded = [
        (pad_sequence(list(vectors.split(counts)), batch_first=True),
         pad_sequence([torch.ones(count) for count in counts], batch_first=True))
        for vectors, counts in zip(leaves, (QUERY_TOKENS, DOCUMENT_TOKENS), strict=True)
    ]  # fmt: skip
    columns = [padded[0], *((padded[1][0][doc::DOCS], padded[1][1][doc::DOCS]) for doc in range(DOCS))]

    class Model(torch.nn.Module):
        def forward(self, features: dict[str, Any], **_: object) -> dict[str, Any]:
            return features

    loss = library.MultiVectorMultipleNegativesRankingLoss(
        Model(), scale=10.0, similarity_fct=scoring.mean_colbert_scores
    )
    expected = loss([{"token_embeddings": vectors, "attention_mask": mask} for vectors, mask in columns])
    assert found[0].mean().item() == pytest.approx(expected.item(), rel=1e-6)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected * QUERIES, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "objective",
    [InfoNCE(directions=("query_to_doc", "doc_to_query")), InfoNCE(in_batch="hard_only"), CoSENT(), KL(),
     Matryoshka(InfoNCE(), (6, 3))],
    ids=str,
)  # fmt: skip
def test_processes_and_blocks_change_nothing(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and gradients of two processes, and of blocks of one row, are those of the whole."""
    whole = losses_and_gradients(objective, [range(QUERIES)])
    assert whole[0].count_nonzero() == QUERIES
    for rows in (64, 1):
        monkeypatch.setattr(blocks, "ROWS", rows)
        torch.testing.assert_close(
            losses_and_gradients(objective, [range(2), range(2, QUERIES)]), whole, rtol=1e-5, atol=2e-6
        )


def test_objectives_of_vectors_are_refused() -> None:
    """Late interaction has no vector of a text, and compares no two queries."""
    step = step_of(tokens(QUERY_TOKENS, 0), tokens(DOCUMENT_TOKENS, 1))
    taught = {"query": torch.ones(QUERIES, 4), "document": torch.ones(QUERIES * DOCS, 4)}
    with pytest.raises(InputError, match="one vector per text"):
        Stella().of_step(replace(step, members=replace(step.all_members(), teacher_vectors=taught)))
    with pytest.raises(InputError, match="leave that direction out"):
        InfoNCE(directions=("query_to_doc", "query_to_query")).of_step(step)


@pytest.mark.parametrize("objective", [InfoNCE(), CoSENT(), Stella(), Matryoshka(Stella(), (6, 2))], ids=str)
def test_cosines_of_the_trainer_are_those_of_the_tests(objective: Objective) -> None:
    """On one vector per text, the trainer's comparison gives the losses of the tests' own."""
    generator = torch.Generator().manual_seed(2)
    queries, documents, *taught = (
        torch.randn(count, WIDTH, generator=generator) for count in (QUERIES, QUERIES * DOCS) * 2
    )
    labels = (torch.arange(QUERIES * DOCS) % DOCS == 0).float()
    texts = Texts(queries, documents, [DOCS] * QUERIES, labels)
    texts = replace(texts, teacher_vectors={"query": taught[0], "document": taught[1]})
    for own in (range(QUERIES), range(1, 3)):
        step = texts.step(own, 0.1)
        members = step.all_members()
        pooled = functional.normalize(torch.cat([queries, documents]), dim=-1)
        counts = Counts([1] * QUERIES, [1] * len(documents), members)
        other = replace(step, comparison=comparison_of({"pooled": pooled}, counts))
        torch.testing.assert_close(objective.of_step(other), objective.of_step(step))
