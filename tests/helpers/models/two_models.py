"""Fake models that rank differently, for tests of combined scores."""

from __future__ import annotations

from typing import Any

from rerank_core import Batch, Combine, Ensemble, Output, Reranker
from rerank_core.testing import FakeScorer, fake_spec

QUERY = "red panda bamboo"
TEXTS = ["red panda bamboo", "a panda", "tea", "panda and bamboo", "bamboo tea"]
FIRST = [1.0, 5.0, 4.0, 2.0, 3.0]
DOCUMENTS = [{"text": text, "id": n, "score": score} for n, (text, score) in enumerate(zip(TEXTS, FIRST, strict=True))]


class Short(FakeScorer):
    """Another model than `FakeScorer`: it prefers short texts."""

    def forward(self, batch: Batch) -> Output:
        self.batches.append(batch)
        return Output({"score": [-float(len(row.ids)) for row in batch.rows]})


def fake(scorer: Any, name: str = "fake", **changes: Any) -> Reranker:
    """A reranker around a fake."""
    return Reranker.from_scorer(scorer, fake_spec(name, **changes))


def pair(by: Combine | None = None, weights: tuple[float, float] = (1, 1)) -> Ensemble:
    """An ensemble of two models that differ."""
    return Ensemble([(fake(FakeScorer(), "overlap"), weights[0]), (fake(Short(), "short"), weights[1])], by)
