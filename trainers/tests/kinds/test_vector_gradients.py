"""The gradient of embedding and late-interaction models: that of the formula in plain torch, however a step is cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers.runs import MakeRows, Prepared, assert_equal, gradient_now, step_of
from torch.nn import functional

from rerank_core.testing import tiny_encoder
from rerank_trainers.loop.prepare import Run

KINDS = {
    "embedding": ("model.kind=embedding", "model.width=24"),
    "colbert": ("model.kind=colbert", "model.width=16", "model.width_bias=true", "model.reduce=mean"),
    "expanded": (
        "model.kind=colbert",
        'model.tokens={"expand_to": 12, "expand_with": "[MASK]", "skip": ["the", "of"]}',
        "objective.temperature=0.5",
    ),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT without a head."""
    return tiny_encoder(tmp_path_factory.mktemp("bare"), "bert")


@pytest.fixture
def make(prepared: Prepared, bare: Path) -> Callable[..., Run]:
    """A run of such a kind, with all documents of each row."""

    def made(kind: str, *more: str) -> Run:
        return prepared(
            f"model.checkpoint={bare}", "objective=infonce", *KINDS[kind], "data.group_size=0", "model.dropout=0", *more
        )

    return made


def gradient_of(run: Run, rows: MakeRows, budget: int) -> dict[str, torch.Tensor]:
    run.trainer.passes.budget = budget
    step = step_of(run, rows(7))
    assert len(step["passes"]) == 1, "in-batch negatives need the whole step"
    run.trainer.training_step(run.model.module, step)
    return gradient_now(run)


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_does_not_depend_on_how_a_step_is_cut(make: Callable[..., Run], rows: MakeRows, kind: str) -> None:
    """One pass, many parts (GradCache), single rows, packed and padded."""
    expected = None
    for layout, budgets in (("packed", (10**6, 60, 1)), ("padded", (10**6, 100))):
        run = make(kind, f"model.layout={layout}")
        assert run.model.scorer.packed is (layout == "packed")
        for budget in budgets:
            found = gradient_of(run, rows, budget)
            expected = expected or found
            assert_equal(found, expected, within=1e-5)


def test_the_gradient_of_an_embedding_model_is_that_of_the_formula(make: Callable[..., Run], rows: MakeRows) -> None:
    """Each text encoded on its own by transformers, mean of the hidden states, linear layer, cosine; each positive
    against all documents but the other positives and equal texts."""
    run = make("embedding", "objective.temperature=0.1")
    found = gradient_of(run, rows, 60)
    module, tokenizer = run.model.module, run.model.tokenizer
    weight = module.projection[0].weight

    def encoded(text: str) -> torch.Tensor:
        states = module(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        return functional.normalize(weight @ states.mean(0), dim=-1)

    data = rows(7)
    documents = [
        (owner, doc, label)
        for owner, row in enumerate(data)
        for doc, label in zip(row.docs, row.labels or (), strict=True)
    ]
    vectors = torch.stack([encoded(text) for _, text, _ in documents])
    total = torch.zeros(())
    for number, row in enumerate(data):
        scores = vectors @ encoded(row.query) / 0.1
        same_query = {at for at, other in enumerate(data) if other.query == row.query}
        known = {text for owner, text, label in documents if owner in same_query and label > 0}
        negatives = [at for at, (_, text, _) in enumerate(documents) if text not in known]
        own = [at for at, (owner, _, label) in enumerate(documents) if owner == number and label > 0]
        losses = [-scores[at] + torch.logsumexp(scores[[at, *negatives]], 0) for at in own]
        total = total + torch.stack(losses).mean()
    (total / len(data)).backward()
    assert_equal(found, gradient_now(run), within=1e-5)


def test_own_documents_alone_are_compared_by_the_objectives_of_rerankers(
    make: Callable[..., Run], rows: MakeRows
) -> None:
    """A softmax over each query's documents needs no other query: its passes are cut as those of cross-encoders."""
    run = make("colbert", "objective=softmax_ce")
    run.trainer.passes.budget = 100
    step = step_of(run, rows(7))
    assert len(step["passes"]) > 2
    run.trainer.training_step(run.model.module, step)
    found = gradient_now(run)
    run.trainer.passes.budget = 10**6
    run.trainer.training_step(run.model.module, step_of(run, rows(7)))
    assert_equal(found, gradient_now(run), within=1e-5)
