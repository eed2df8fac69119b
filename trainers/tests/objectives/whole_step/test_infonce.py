"""InfoNCE equals its formula, written as loops in float64, and sentence-transformers' loss."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.steps import Texts, losses_and_gradients, with_leaves
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rerank_core import InputError
from rerank_trainers.objectives.registry import make_objective
from rerank_trainers.objectives.whole_step import blocks
from rerank_trainers.objectives.whole_step.infonce import InfoNCE

EVERY_DIRECTION = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"in_batch": "hard_only"},
    {"in_batch": "none"},
    {"directions": ["query_to_doc", "doc_to_query"]},
    {"directions": ["query_to_doc", "doc_to_query"], "partition": "per_direction"},
    {"directions": list(EVERY_DIRECTION)},
    {"false_negative_margin": 0.1},
    {"false_negative_margin": -0.2, "in_batch": "none"},
    {"false_negative_margin": 0.05, "directions": list(EVERY_DIRECTION)},
]


def drawn(sizes: list[int], seed: int, width: int = 6, texts: int = 10**6) -> Texts:
    """Random vectors and labels; a small number of ``texts`` gives many equal ones."""
    generator = torch.Generator().manual_seed(seed)
    count = sum(sizes)
    labels = (torch.rand(count, generator=generator) < 0.4) * torch.randint(1, 4, (count,), generator=generator) / 3
    return Texts(
        torch.randn(len(sizes), width, generator=generator),
        torch.randn(count, width, generator=generator),
        sizes,
        labels,
        query_texts=torch.randint(texts, (len(sizes),), generator=generator),
        document_texts=torch.randint(texts, (count,), generator=generator),
    )


def loop(texts: Texts, options: dict[str, Any], temperature: float) -> list[Tensor]:
    """The loss of each query by the definition, one negative at a time, in float64."""
    queries, documents = (
        torch.nn.functional.normalize(values.double(), dim=-1) for values in (texts.queries, texts.documents)
    )
    assert texts.labels is not None
    assert texts.query_texts is not None
    assert texts.document_texts is not None
    labels, query_text, doc_text = texts.labels.tolist(), texts.query_texts.tolist(), texts.document_texts.tolist()
    owner = [query for query, size in enumerate(texts.sizes) for _ in range(size)]
    known = {(query_text[owner[doc]], doc_text[doc]) for doc in range(len(owner)) if labels[doc] > 0}
    in_batch, margin = options.get("in_batch", "all"), options.get("false_negative_margin", math.inf)
    directions = options.get("directions", ["query_to_doc"])

    def negatives(direction: str, query: int, positive: int) -> list[Tensor]:
        if direction in ("doc_to_query", "query_to_query"):
            of_query = direction == "query_to_query"
            found = [
                (queries[query] if of_query else documents[positive]) @ queries[other]
                for other in range(len(queries))
                if (query_text[other] != query_text[query] if of_query
                    else (query_text[other], doc_text[positive]) not in known)
            ]  # fmt: skip
        else:
            of_query = direction == "query_to_doc"
            found = [
                (queries[query] if of_query else documents[positive]) @ documents[doc]
                for doc in range(len(owner))
                if (query_text[query], doc_text[doc]) not in known
                and (of_query or query_text[owner[doc]] != query_text[query])
                and (in_batch != "none" or owner[doc] == query)
                and (in_batch != "hard_only" or labels[doc] == 0)
            ]
        best = queries[query] @ documents[positive]
        return [(one - best) / temperature for one in found if one <= best + margin]

    losses = []
    for query in range(len(queries)):
        of_positives = []
        for doc in range(len(owner)):
            if owner[doc] == query and labels[doc] > 0:
                sums = [sum(torch.exp(one) for one in negatives(way, query, doc)) for way in directions]
                zero = queries[query].sum() * 0
                if options.get("partition") == "per_direction":
                    of_positives.append(sum(torch.log(1 + one + zero) for one in sums) / len(sums))
                else:
                    of_positives.append(torch.log(1 + ("doc_to_query" in directions) + sum(sums) + zero))
        losses.append(sum(of_positives, start=(queries.sum() + documents.sum()) * 0) / (len(of_positives) or 1))
    return losses


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.sampled_from([4, 12, 10**6]), st.integers(0, 2**31))
def test_loss_and_gradient_are_those_of_the_formula(
    options: dict[str, Any], sizes: list[int], count: int, seed: int
) -> None:
    """On random ragged groups with many or few equal texts, each loss and the gradient equal the loop's to 1e-6."""
    texts = drawn(sizes, seed, texts=count)
    found = losses_and_gradients(make_objective("infonce", **options), texts, [range(len(sizes))], 0.5)
    exact, leaves = with_leaves(replace(texts, queries=texts.queries.double(), documents=texts.documents.double()))
    expected = loop(exact, options, 0.5)
    assert found[0].dtype == torch.float32
    assert found[0].tolist() == pytest.approx([loss.item() for loss in expected], rel=1e-6, abs=1e-6)
    slopes = torch.autograd.grad(sum(expected, start=torch.zeros(())), leaves)
    for mine, theirs in zip(found[1:], slopes, strict=True):
        torch.testing.assert_close(mine.double(), theirs, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_processes_and_blocks_change_nothing(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The losses and gradients of two processes, one without a query, and of small blocks are those of the whole."""
    sizes = [3, 1, 4, 2, 2, 5]
    texts = drawn(sizes, 3, texts=30)
    objective = make_objective("infonce", **options)
    whole = losses_and_gradients(objective, texts, [range(6)], 0.1)
    assert whole[0].count_nonzero() > 1
    for parts in ([range(2), range(2, 6)], [range(6), range(6, 6)]):
        torch.testing.assert_close(losses_and_gradients(objective, texts, parts, 0.1), whole, rtol=1e-6, atol=2e-6)
    for rows in (1, 3):
        monkeypatch.setattr(blocks, "ROWS", rows)
        torch.testing.assert_close(losses_and_gradients(objective, texts, [range(6)], 0.1), whole, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("partition", ["joint", "per_direction"])
@pytest.mark.parametrize(
    "directions",
    [chosen for size in range(4) for chosen in itertools.combinations(EVERY_DIRECTION[1:], size)],
    ids="+".join,
)
def test_it_is_sentence_transformers(directions: tuple[str, ...], partition: str, columns: int) -> None:
    """MultipleNegativesRankingLoss on one positive and the same number of hard negatives for each query."""
    library = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    chosen = ("query_to_doc", *directions)
    if partition == "per_direction" and {"query_to_query", "doc_to_doc"} & set(directions):
        with pytest.raises(InputError, match="per_direction"):
            InfoNCE(directions=chosen, partition=partition)  # type: ignore[arg-type]
        return
    texts = drawn([columns] * 7, 4)
    texts = replace(texts, labels=(torch.arange(7 * columns) % columns == 0).float())
    objective = make_objective("infonce", directions=chosen, partition=partition)
    found = losses_and_gradients(objective, texts, [range(7)], 0.05)

    loss = library.MultipleNegativesRankingLoss(
        torch.nn.Identity(), scale=20.0, directions=chosen, partition_mode=partition
    )
    moved, leaves = with_leaves(texts)
    expected = loss.compute_loss_from_embeddings(
        [moved.queries, *moved.documents.view(7, columns, -1).unbind(1)], labels=None
    )
    assert found[0].mean().item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-6)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected * 7, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=5e-6)


def test_hard_only_is_rag_retrieval() -> None:
    """Its triplet loss: own positive + all hard negatives of all queries, and no positive of another query."""
    texts = drawn([4] * 5, 5)
    texts = replace(texts, labels=(torch.arange(20) % 4 == 0).float())
    found = losses_and_gradients(InfoNCE(in_batch="hard_only"), texts, [range(5)], 0.02)

    moved, leaves = with_leaves(texts)
    queries, documents = (torch.nn.functional.normalize(values, dim=-1) for values in (moved.queries, moved.documents))
    of_query = documents.view(5, 4, -1)
    own = (queries * of_query[:, 0]).sum(-1, keepdim=True)
    scores = torch.cat([own, queries @ of_query[:, 1:].flatten(0, 1).T], 1) / 0.02
    expected = torch.nn.functional.cross_entropy(scores, torch.zeros(5, dtype=torch.long), reduction="sum")
    assert found[0].sum().item() == pytest.approx(expected.item(), rel=2e-6)
    for mine, theirs in zip(found[1:], torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-5)
