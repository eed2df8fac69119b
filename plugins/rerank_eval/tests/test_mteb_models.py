"""The classes that mteb gets, without mteb: pairs, candidates and whole corpora are scored as `rerank` scores them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import rerank_core
from rerank_core import Head, InputError, MissingDependencyError, ModelOption, ModelSpec, Reranker, Template
from rerank_core.testing import FakeListRanker, FakeScorer, FakeSeparate, FakeTextScorer, fake_spec, tiny_encoder
from rerank_eval.mteb import installed, mteb_model
from rerank_eval.mteb.models import EmbeddingModel, IndexModel, ListModel, PairModel
from rerank_eval.mteb.requests import Wording

TASK = SimpleNamespace(prompt={"query": "find an answer"})
PLAIN = Wording(takes_instruction=False, task_prompts=False)
CORPUS = [
    {"id": "a", "title": "Pandas", "text": " eat bamboo "},
    {"id": "b", "title": "", "text": "bears eat fish"},
    {"id": "c", "text": "pandas live in the mountains"},
    {"id": "d", "title": None, "text": "a red car"},
    {"id": "e", "text": "bears and pandas"},
]
TEXTS = ["Pandas  eat bamboo", "bears eat fish", "pandas live in the mountains", "a red car", "bears and pandas"]
QUERIES = [{"id": "q1", "text": "pandas eat"}, {"id": "q2", "text": "bears"}]


class Corpus(list[dict[str, Any]]):
    """Rows that also give a column, as a `Dataset` does."""

    def __getitem__(self, key: Any) -> Any:
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)


class Counting(FakeTextScorer):
    """Notes every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str], str | None]] = []
        self.instruction: str | None = None

    def configured(self, options: dict[str, Any]) -> Counting:
        other = Counting()
        other.calls, other.instruction = self.calls, options["instruction"]
        return other

    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        self.calls.append((query, list(docs), self.instruction))
        return super().score(query, docs)


def batches(rows: Sequence[dict[str, Any]], size: int = 2) -> Iterator[dict[str, list[Any]]]:
    """Rows as mteb's batches: lists by column."""
    for start in range(0, len(rows), size):
        own = rows[start : start + size]
        yield {name: [row[name] for row in own] for name in own[0]}


def predicted(model: PairModel, pairs: Sequence[tuple[dict[str, Any], str]]) -> list[float]:
    queries, documents = [query for query, _ in pairs], [{"text": text, "id": "-"} for _, text in pairs]
    scores = model.predict(batches(queries), batches(documents, 3), task_metadata=TASK, hf_split="dev", hf_subset="-")
    assert scores.dtype == np.float64
    return [float(score) for score in scores]


def searched(
    model: Any, top_ranked: Any = None, top_k: int = 1000, queries: Any = QUERIES
) -> dict[str, dict[str, float]]:
    model.index(Corpus(CORPUS), task_metadata=TASK, hf_split="dev", hf_subset="default", encode_kwargs={})
    found: dict[str, dict[str, float]] = model.search(queries, task_metadata=TASK, top_k=top_k, top_ranked=top_ranked)
    return found


def test_neighbouring_pairs_of_a_query_are_one_call() -> None:
    """Also across batches; a query that comes again is another call, and scores keep the order of the pairs."""
    scorer = Counting()
    model = PairModel(Reranker.from_scorer(scorer, fake_spec()), None, PLAIN)
    asked = [("a b", "b"), ("a b", "a b"), ("a b", "c"), ("d", "d e"), ("a b", "a")]

    scores = predicted(model, [({"text": query, "query": query}, text) for query, text in asked])

    assert [(query, docs) for query, docs, _ in scorer.calls] == [
        ("a b", ["b", "a b", "c"]),
        ("d", ["d e"]),
        ("a b", ["a"]),
    ]
    assert scores == [FakeTextScorer().score(query, [text])[0] for query, text in asked]


def test_instructions_of_queries_and_tasks() -> None:
    """A query's own instruction is an option where the model has it, else text after the query; the task's prompt is
    given on request, and to queries without an instruction."""
    rows = [
        {"text": "q1 only dates", "query": "q1", "instruction": "only dates"},
        {"text": "q2", "query": "q2", "instruction": ""},
    ]
    option = ModelOption("instruction", "str", "task", default="own", when="call")
    expected = {
        (False, False): [("q1 only dates", None), ("q2", None)],
        (True, False): [("q1", "only dates"), ("q2", None)],
        (True, True): [("q1", "only dates"), ("q2", "find an answer")],
    }
    for (takes, prompts), calls in expected.items():
        scorer = Counting()
        spec = fake_spec(options=(option,)) if takes else fake_spec()
        predicted(
            PairModel(Reranker.from_scorer(scorer, spec), None, Wording(takes, prompts)), [(row, "x") for row in rows]
        )
        assert [(query, instruction) for query, _, instruction in scorer.calls] == calls
    assert Wording(True, True).task_prompt("a text") == "a text"
    assert Wording(True, True).task_prompt(None) is None


def test_a_conversation_is_refused() -> None:
    with pytest.raises(InputError, match="no conversations"):
        PLAIN.query({"text": [{"role": "user", "content": "hello"}]}, None)


@pytest.mark.parametrize("at_once", [2, 1000])
def test_candidates_of_an_index_score_as_in_rerank(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the documents of a query are encoded together or not; titles stand before texts."""
    monkeypatch.setattr(IndexModel, "documents_at_once", at_once)
    reranker = Reranker.from_scorer(FakeSeparate(), fake_spec())
    top_ranked = {"q1": ["e", "a", "d"], "q2": ["a", "b", "c", "e"]}

    found = searched(IndexModel(reranker, None, PLAIN), top_ranked)

    for query in QUERIES:
        own = [TEXTS["abcde".index(key)] for key in top_ranked[query["id"]]]
        scores = reranker.rerank(query["text"], own, activation="none").scores()
        assert found[query["id"]] == dict(zip(top_ranked[query["id"]], scores, strict=True))


@pytest.mark.parametrize("at_once", [2, 1000])
def test_a_search_of_the_corpus_finds_the_best(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexModel, "documents_at_once", at_once)
    reranker = Reranker.from_scorer(FakeSeparate(), fake_spec())

    found = searched(IndexModel(reranker, None, PLAIN), top_k=2)

    for query in QUERIES:
        best = reranker.rerank(query["text"], TEXTS, activation="none", top_k=2)
        assert sorted(found[query["id"]].values(), reverse=True) == [hit.score for hit in best]


def test_a_listwise_model_ranks_candidates_and_searches_nothing() -> None:
    """Each list is ranked whole; a score is minus the rank."""
    model = ListModel(Reranker.from_scorer(FakeListRanker(), fake_spec(score_space="rank")), None, PLAIN)

    found = searched(model, {"q1": ["d", "b", "a"]})

    assert found["q2"] == {}
    assert sorted(found["q1"].values()) == [-3.0, -2.0, -1.0]
    assert found["q1"]["d"] == -3.0
    with pytest.raises(InputError, match="cannot search a corpus; give it a reranking task"):
        searched(model)


def test_what_is_missing_is_named() -> None:
    model = IndexModel(Reranker.from_scorer(FakeSeparate(), fake_spec()), None, PLAIN)
    with pytest.raises(InputError, match="1 candidates are not in the corpus, the first is 'z'"):
        searched(model, {"q1": ["a", "z"]})
    with pytest.raises(InputError, match="before index"):
        model.search(QUERIES, task_metadata=TASK, top_k=10)


def test_vectors_of_an_embedding_model(tmp_path: Path) -> None:
    """Their products are the scores of the search, for texts that fit into a row."""
    rerank_core.write_spec(
        ModelSpec(name="tiny", template=Template.each(query="query: {query}"), head=Head.cosine("mean"), max_length=64),
        tiny_encoder(tmp_path, "bert"),
    )
    with EmbeddingModel(rerank_core.load(tmp_path, device="cpu"), None, PLAIN) as model:
        assert isinstance(model, EmbeddingModel)
        queries = model.encode(batches(QUERIES), task_metadata=TASK)
        documents = model.encode(
            batches([{"text": text} for text in TEXTS]), task_metadata=TASK, prompt_type="document"
        )
        found = searched(model)
        scores = model.similarity(queries, documents)
        pairs = model.similarity_pairwise(queries, documents[:2])
        with pytest.raises(InputError, match="vectors are float32"):
            model.encode(batches(QUERIES), task_metadata=TASK, precision="int8")

    assert scores.shape == (2, 5)
    assert pairs.tolist() == pytest.approx([float(scores[0, 0]), float(scores[1, 1])], abs=1e-6)
    for row, query in enumerate(QUERIES):
        expected = dict(zip("abcde", scores[row].tolist(), strict=True))
        assert found[query["id"]] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("found", "words"), [(None, "mteb is not installed"), ("1.1.1", "mteb 1.1.1 is installed")])
def test_without_mteb_2_nothing_is_loaded(found: str | None, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(installed, "version", version)
    with pytest.raises(MissingDependencyError, match=words) as error:
        mteb_model("no-such-model")
    assert "pip install 'rerank-eval[mteb]'" in str(error.value)


def test_mteb_is_imported_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making and using the classes imports nothing of it."""
    real: Callable[..., Any] = builtins.__import__

    def checked(name: str, *arguments: Any, **options: Any) -> Any:
        assert name.split(".")[0] not in ("mteb", "datasets")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", checked)
    model = PairModel(Reranker.from_scorer(FakeScorer(), fake_spec()), None, PLAIN)
    assert len(predicted(model, [({"text": "a"}, "a b")])) == 1
