"""A query is encoded once for all batches of a call, and again wherever its embedding could be another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.late import reading, saved
from helpers.plain import DOCUMENTS, QUERIES, assert_close
from rerank_core import Head, ModelOption, ModelSpec, Options, QueryRow, Reranker, Template
from rerank_core.backends.torch import build, scorer_of
from rerank_core.backends.torch.late_interaction import recent_queries
from rerank_core.backends.torch.late_interaction.embeddings import Embedding
from rerank_core.backends.torch.late_interaction.recent_queries import RecentQueries

TASK = ModelSpec(
    name="tiny",
    template=Template.each("{instruction}{query}"),
    head=Head.cosine("mean"),
    max_length=64,
    options=(ModelOption("instruction", "str", "the task", default="", when="call"),),
)


class Encoder:
    """Encodes a query as its number of tokens, and lists what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, queries: Sequence[QueryRow]) -> list[Embedding]:
        self.asked.append([len(query.ids) for query in queries])
        return [{"vectors": torch.tensor([[float(len(query.ids))]])} for query in queries]


def of(length: int, attended: int | None = None) -> QueryRow:
    return QueryRow([7] * length, attended=attended)


def test_only_unknown_queries_are_encoded_and_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, in the order of the queries; tokens that are not attended to make another query."""
    monkeypatch.setattr(recent_queries, "_MOST", 2)
    recent, encode = RecentQueries(), Encoder()
    found = recent.encoded(encode, [of(1), of(2), of(1)])
    assert [float(one["vectors"]) for one in found] == [1, 2, 1]
    recent.encoded(encode, [of(1)])
    recent.encoded(encode, [of(3), of(1)])
    recent.encoded(encode, [of(2), of(1, attended=1)])
    assert encode.asked == [[1, 2], [3], [2, 1]]


def test_more_queries_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """All have their embeddings."""
    monkeypatch.setattr(recent_queries, "_MOST", 2)
    found = RecentQueries().encoded(Encoder(), [of(length) for length in range(1, 9)])
    assert [float(one["vectors"]) for one in found] == list(range(1, 9))


def test_the_batches_of_a_call_encode_the_query_once(tmp_path: Path) -> None:
    """One pass for each batch of documents, and one for the query."""
    reranker = rerank_core.load(saved(tmp_path), device="cpu", threads=1, token_budget=64)
    expected = rerank_core.load(tmp_path, device="cpu", threads=1).rerank(QUERIES[0], DOCUMENTS).scores()
    scorer: Any = reranker.scorer
    passes: list[int] = []
    encode = scorer.encode
    scorer.encode = lambda rows: passes.append(len(rows)) or encode(rows)
    with reading(reranker) as seen:
        assert_close(expected, reranker.rerank(QUERIES[0], DOCUMENTS).scores())
    assert len(passes) > 3
    assert len(seen) == len(passes) + 1


def test_a_live_modules_query_is_encoded_with_its_present_weights(tmp_path: Path) -> None:
    """A trainer changes the weights between two calls."""
    loaded: Any = rerank_core.load(saved(tmp_path), device="cpu")
    from transformers import AutoModel

    auto: Any = AutoModel
    module = auto.from_pretrained(str(tmp_path))
    reranker = Reranker.from_scorer(scorer_of(module, loaded.scorer.tokenizer, loaded.spec), loaded.spec)
    before = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    with torch.no_grad():
        module.embeddings.word_embeddings.weight.add_(torch.randn_like(module.embeddings.word_embeddings.weight))
    fresh = Reranker.from_scorer(scorer_of(module, loaded.scorer.tokenizer, loaded.spec), loaded.spec)
    after = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
    assert_close(fresh.rerank(QUERIES[0], DOCUMENTS).scores(), after)
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) > 1e-3


def test_another_instruction_is_another_query(tmp_path: Path) -> None:
    """Options of a call change the query's tokens."""
    spec = replace(TASK, checkpoint=str(saved(tmp_path)))
    reranker = Reranker.from_scorer(build(spec, Options.of(spec, {"device": "cpu"})), spec)
    plain, told, again = (
        reranker.rerank(QUERIES[0], DOCUMENTS, instruction=text).scores() for text in ("", "Find code. ", "")
    )
    assert plain == again
    assert max(abs(a - b) for a, b in zip(plain, told, strict=True)) > 1e-4
