"""A text that is known to be relevant is never a negative; options that contradict each other are refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.steps import Texts, on_groups
from torch import Tensor

from rerank_core import InputError
from rerank_trainers.objectives.base import Needs
from rerank_trainers.objectives.registry import make_objective
from rerank_trainers.objectives.whole_step.infonce import InfoNCE

# Three queries with a positive and a negative each; in angles, so that every similarity is known.
QUERIES = (0.0, 1.0, 2.0)
DOCUMENTS = (0.3, 0.9, 1.4, 1.9, 2.2, 0.1)


def circle(angles: tuple[float, ...]) -> Tensor:
    values = torch.tensor(angles)
    return torch.stack([values.cos(), values.sin()], -1)


def texts(**changes: Any) -> Texts:
    plain = Texts(
        circle(QUERIES), circle(DOCUMENTS), [2, 2, 2], torch.tensor([1.0, 0, 1, 0, 1, 0]),
        query_texts=torch.arange(3), document_texts=torch.arange(6),
    )  # fmt: skip
    return replace(plain, **changes)


def loss_of(against: list[int], *, positive: int = 0, query: int = 0) -> float:
    """The loss of a query's positive against these documents, at temperature 1."""
    best = math.cos(QUERIES[query] - DOCUMENTS[positive])
    return math.log(1 + sum(math.exp(math.cos(QUERIES[query] - DOCUMENTS[doc]) - best) for doc in against))


def losses(found: Texts, own: range | None = None, **options: Any) -> list[float]:
    return InfoNCE(**options).of_step(found.step(own)).tolist()


def test_all_other_documents_are_negatives() -> None:
    """Without equal texts: the own negative, and both documents of each other query, of other processes too."""
    assert losses(texts())[0] == pytest.approx(loss_of([1, 2, 3, 4, 5]), rel=1e-6)
    assert losses(texts(), range(1)) == losses(texts())[:1]


def test_other_positives_of_the_query_are_no_negatives() -> None:
    """A query's loss is the mean over its positives, each against the negatives alone."""
    found = texts(labels=torch.tensor([1.0, 0.5, 1, 0, 1, 0]))
    both = [loss_of([2, 3, 4, 5], positive=positive) for positive in (0, 1)]
    assert losses(found)[0] == pytest.approx(sum(both) / 2, rel=1e-6)


@pytest.mark.parametrize("own", [None, range(1)], ids=["one process", "another process"])
@pytest.mark.parametrize("copy", [1, 3, 4])
def test_a_copy_of_a_positive_is_no_negative(copy: int, own: range | None) -> None:
    """A document with the positive's text does not count: among the own negatives, another query's negatives, or its
    positives."""
    document_texts = torch.arange(6)
    document_texts[copy] = 0
    rest = [doc for doc in range(1, 6) if doc != copy]
    assert losses(texts(document_texts=document_texts), own)[0] == pytest.approx(loss_of(rest), rel=1e-6)


@pytest.mark.parametrize("own", [None, range(1)], ids=["one process", "another process"])
def test_positives_of_the_same_query_in_another_row_are_no_negatives(own: range | None) -> None:
    """Rows 0 and 1 have one query text: row 1's positive, and copies of it, are no negatives of row 0; row 1's
    negative is."""
    found = texts(query_texts=torch.tensor([7, 7, 2]))
    assert losses(found, own)[0] == pytest.approx(loss_of([1, 3, 4, 5]), rel=1e-6)
    copied = replace(found, document_texts=torch.tensor([0, 1, 2, 3, 4, 2]))
    assert losses(copied, own)[0] == pytest.approx(loss_of([1, 3, 4]), rel=1e-6)


def test_hard_only_and_none_leave_out_documents_of_other_queries() -> None:
    """`hard_only` leaves out other queries' positives, `none` all their documents."""
    assert losses(texts(), in_batch="hard_only")[0] == pytest.approx(loss_of([1, 3, 5]), rel=1e-6)
    assert losses(texts(), in_batch="none")[0] == pytest.approx(loss_of([1]), rel=1e-6)
    copied = texts(document_texts=torch.tensor([0, 0, 2, 3, 4, 5]))
    assert losses(copied, in_batch="none")[0] == 0


def test_a_margin_leaves_out_what_is_more_similar_than_the_positive() -> None:
    """Similarities are compared before the temperature. Document 5 exceeds query 0's positive by 0.04."""
    assert math.cos(0.1) - math.cos(0.3) == pytest.approx(0.0397, abs=1e-4)
    assert losses(texts(), false_negative_margin=0.05)[0] == losses(texts())[0]
    kept = losses(texts(), false_negative_margin=0.03)[0]
    assert kept == pytest.approx(loss_of([1, 2, 3, 4]), rel=1e-6)
    for temperature in (0.02, 50.0):
        objective = InfoNCE(false_negative_margin=0.03)
        without = InfoNCE().of_step(texts(document_texts=torch.tensor([0, 1, 2, 3, 4, 0])).step(None, temperature))
        assert objective.of_step(texts().step(None, temperature))[0].item() == pytest.approx(without[0].item())


@pytest.mark.parametrize("own", [None, range(1)], ids=["one process", "another process"])
def test_other_directions_leave_out_equal_texts(own: range | None) -> None:
    """document to query: queries that the document answers; query to query: the same query; document to document:
    documents of a row with the same query, and copies of its positives."""
    found = texts(query_texts=torch.tensor([7, 7, 2]))
    best = math.cos(QUERIES[0] - DOCUMENTS[0])

    def joint(extra: list[float], twice: bool = False) -> float:
        plain = [math.cos(QUERIES[0] - DOCUMENTS[doc]) for doc in (1, 3, 4, 5)]
        return math.log(1 + twice + sum(math.exp(one - best) for one in plain + extra))

    to_query = losses(found, own, directions=["query_to_doc", "doc_to_query"])[0]
    assert to_query == pytest.approx(joint([math.cos(QUERIES[2] - DOCUMENTS[0])], twice=True), rel=1e-6)
    queries = losses(found, own, directions=["query_to_doc", "query_to_query"])[0]
    assert queries == pytest.approx(joint([math.cos(QUERIES[0] - QUERIES[2])]), rel=1e-6)
    documents = losses(found, own, directions=["query_to_doc", "doc_to_doc"])[0]
    others = [math.cos(DOCUMENTS[0] - DOCUMENTS[doc]) for doc in (4, 5)]
    assert documents == pytest.approx(joint(others), rel=1e-6)


def test_a_query_without_a_positive_is_a_zero_in_the_graph() -> None:
    """Its loss is 0, it still reads the vectors, and its documents are negatives of the other queries."""
    found = texts(labels=torch.tensor([0.0, 0, 1, 0, 1, 0]))
    vectors = found.documents.clone().requires_grad_()
    step = replace(found, documents=vectors).step(range(1))
    (loss,) = InfoNCE().of_step(step)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert gradient.count_nonzero() == 0
    # The loss of the other rows falls when this row's document moves away.
    assert losses(found)[1] > losses(replace(found, sizes=[2, 2], queries=found.queries[1:],
                                             documents=found.documents[2:], labels=found.labels[2:],  # type: ignore[index]
                                             query_texts=None, document_texts=None))[0]  # fmt: skip


def test_a_query_without_negatives_has_the_loss_0() -> None:
    """One row with one document: nothing to compare, and no NaN (RAG-Retrieval divides by zero)."""
    found = Texts(circle((0.0,)), circle((0.5,)), [1], torch.ones(1))
    vectors = found.documents.clone().requires_grad_()
    for in_batch in ("all", "hard_only", "none"):
        (loss,) = InfoNCE(in_batch=in_batch).of_step(replace(found, documents=vectors).step())  # type: ignore[arg-type]
        assert loss.item() == 0
        assert torch.autograd.grad(loss, vectors)[0].tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"in_batch": "hard"}, "in_batch of infonce.*'hard'"),
        ({"partition": "sum"}, "partition of infonce"),
        ({"directions": []}, r"directions of infonce is \[\]"),
        ({"directions": "query_to_doc"}, "must be a list"),
        ({"directions": ["doc_to_query"]}, "with 'query_to_doc'"),
        ({"directions": ["query_to_doc", "doc_to_text"]}, "'doc_to_text'"),
        ({"directions": ["query_to_doc", "doc_to_query"], "in_batch": "none"}, "use in_batch 'all'"),
        ({"directions": ["query_to_doc", "query_to_query"], "in_batch": "hard_only"}, "use in_batch 'all'"),
        *(({"false_negative_margin": value}, "false_negative_margin") for value in (math.nan, math.inf, True, "0.1")),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    """The error names the option and the value."""
    with pytest.raises(InputError, match=words):
        make_objective("infonce", **options)


def test_needs() -> None:
    """It needs labels and the whole step; a second document where only hard negatives are negatives; vectors where it
    compares texts of one side."""
    assert InfoNCE().needs == Needs(labels=True, step=True, other_rows=True)
    assert InfoNCE(in_batch="none").needs == Needs(labels=True, docs=2, step=True)
    assert InfoNCE(directions=("query_to_doc", "doc_to_query")).needs == Needs(labels=True, step=True, other_rows=True)
    vectors = InfoNCE(directions=("query_to_doc", "doc_to_doc"))
    assert vectors.needs == Needs(labels=True, step=True, other_rows=True, vectors=True)
    with pytest.raises(InputError, match="labels"):
        InfoNCE().of_step(texts(labels=None).step())
    with pytest.raises(InputError, match="query and document together"):
        on_groups(InfoNCE(), torch.zeros(1, 2), torch.ones(1, 2), None, torch.ones(1, 2, dtype=torch.bool))
