"""How a reranker can be called: streams, coroutines, pickles, options, and after it was closed."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from typing import Any

import pytest

from rerank_core import (
    Batch,
    InputError,
    MeanP,
    ModelOption,
    Options,
    Output,
    PluginError,
    Ranking,
    Reranker,
    RerankError,
)
from rerank_core.options import CallOptions
from rerank_core.testing import FakeScorer, FakeTextScorer, fake_spec

QUERY = "red panda bamboo"


def reranker(scorer: Any, **options: Any) -> Reranker:
    """A reranker around a fake."""
    return Reranker.from_scorer(scorer, fake_spec(), **options)


def test_stream_is_lazy_and_in_order() -> None:
    """A stream reads ahead about a thousand documents, not to the end of an endless source."""
    taken = []

    def endless() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield f"panda {number}", ["panda"] * 100

    stream = reranker(FakeScorer("joint")).rerank_stream(endless())
    first: list[Ranking] = [next(stream) for _ in range(3)]

    assert [ranking.query for ranking in first] == ["panda 0", "panda 1", "panda 2"]
    assert len(taken) < 20


def test_cancelled_call_stops_between_batches() -> None:
    """Cancelling `arerank` ends its worker at the next batch instead of running to the end."""

    class Slow(FakeScorer):
        def forward(self, batch: Batch) -> Output:
            time.sleep(0.05)
            return super().forward(batch)

    scorer = Slow("joint", token_budget=1)

    async def call() -> None:
        task = asyncio.create_task(reranker(scorer).arerank(QUERY, [f"panda {n}" for n in range(200)]))
        await asyncio.sleep(0.12)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(call())
    assert 0 < len(scorer.batches) < 20


def test_failure_in_a_worker_reaches_the_caller() -> None:
    """`arerank` raises what `rerank` raises."""

    class Failing(FakeScorer):
        def forward(self, batch: Batch) -> Output:
            raise ZeroDivisionError("inside the model")

    with pytest.raises(ZeroDivisionError, match="inside the model"):
        asyncio.run(reranker(Failing("joint")).arerank(QUERY, ["panda"]))


def test_call_options_list_themselves() -> None:
    """An unknown call option names the near match and all valid ones."""
    with pytest.raises(InputError, match=r"Did you mean 'top_k'.*min_score"):
        CallOptions.of(fake_spec(), {"topk": 3})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_length": 0}, "max_length"),
        ({"max_length": "512"}, "max_length"),
        ({"token_budget": -1}, "token_budget"),
        ({"overlap": -1}, "overlap"),
        ({"max_query_length": True}, "max_query_length"),
        ({"dtype": "int4"}, "int4"),
        ({"activation": "softmax"}, "softmax"),
        ({"longdoc": "best"}, "best"),
        ({"offline": "yes"}, "offline"),
        ({"checkpoint": 3}, "checkpoint"),
        ({"max_lenght": 3}, "Did you mean 'max_length'"),
        ({"batch_size": 3}, "Valid options: activation"),
    ],
)
def test_load_options_are_checked(given: dict[str, Any], said: str) -> None:
    """A value that cannot be used, or an option that does not exist, is an InputError that names it."""
    with pytest.raises(InputError, match=said):
        Options.of(fake_spec(), given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"top_k": 0}, "top_k"),
        ({"min_score": "high"}, "min_score"),
        ({"min_score": float("nan")}, "min_score"),
        ({"overlap": 1.5}, "overlap"),
        ({"k": 3}, "Valid"),
    ],
)
def test_call_options_are_checked(given: dict[str, Any], said: str) -> None:
    """The same for one call."""
    with pytest.raises(InputError, match=said):
        reranker(FakeScorer("joint")).rerank(QUERY, ["x"], **given)


def test_call_options_of_a_model_reach_its_scorer() -> None:
    """A call-time option makes a configured view for that call alone; without `configured` it is a PluginError."""

    class Scaled(FakeTextScorer):
        factor = 1.0

        def configured(self, options: Any) -> FakeTextScorer:
            view = Scaled()
            view.factor = options["factor"]
            return view

        def score(self, query: str, docs: Any) -> list[float]:
            return [self.factor * score for score in super().score(query, docs)]

    spec = fake_spec(options=(ModelOption("factor", "float", "scale", default=1.0, when="call"),))
    fake = Reranker.from_scorer(Scaled(), spec)
    plain = fake.score([(QUERY, "panda")])
    assert fake.score([(QUERY, "panda")], factor=2.0) == [2 * plain[0]]
    assert fake.score([(QUERY, "panda")]) == plain
    with pytest.raises(PluginError, match="configured"):
        Reranker.from_scorer(FakeTextScorer(), spec).score([(QUERY, "panda")], factor=2.0)


def test_sigmoid_over_scores_that_are_no_logits_is_refused_on_load() -> None:
    """An activation that cannot be right fails when the model is loaded, not at the first query."""
    with pytest.raises(InputError, match="logits"):
        Reranker.from_scorer(FakeTextScorer(), fake_spec(score_space="cosine"), activation="sigmoid")


def test_strategies_may_be_objects_and_overlap_may_change() -> None:
    """`longdoc=` takes an object too, at load and at call; `overlap=` changes the windows."""
    text = "panda " * 200
    fake = reranker(FakeScorer("joint"), longdoc=MeanP())
    mean, best = fake.rerank(QUERY, [text]), fake.rerank(QUERY, [text], longdoc="maxp")
    assert mean[0].score < best[0].score
    wide = fake.rerank(QUERY, [text], overlap=40)
    assert len(wide[0].passages) > len(mean[0].passages)


def test_overlap_that_leaves_no_step_is_refused() -> None:
    """An overlap as long as the room is an InputError."""
    with pytest.raises(InputError, match="overlap"):
        reranker(FakeScorer("joint")).rerank(QUERY, ["panda"], overlap=64)


def test_a_call_that_has_begun_survives_a_close() -> None:
    """Another thread closes the reranker after the call has found it open."""
    reranker = Reranker.from_scorer(FakeScorer(), fake_spec())

    class Closing(CallOptions):
        def __getattribute__(self, name: str) -> Any:
            if name == "model":
                reranker.close()
            return super().__getattribute__(name)

    assert isinstance(reranker._open(Closing()), FakeScorer)


def test_closed_reranker_says_so() -> None:
    """After `with` every call is a RerankError, closing again is fine, and a borrowed scorer stays open."""
    scorer = FakeScorer("joint")
    with reranker(scorer) as fake:
        fake.rerank(QUERY, ["panda"])
    fake.close()
    assert not scorer.closed
    assert "closed" in repr(fake)
    for call in (lambda: fake.rerank(QUERY, ["x"]), lambda: fake.score([(QUERY, "x")]), lambda: fake.index(["x"])):
        with pytest.raises(RerankError, match="closed"):
            call()


@pytest.mark.parametrize("pair", ["qd", ("q",), ("q", "d", "e"), {"q": "d"}, 3])
def test_pairs_must_be_pairs(pair: object) -> None:
    """`score` takes (query, document) pairs; a lone string of two characters is none."""
    with pytest.raises(InputError, match="pair 1"):
        reranker(FakeScorer("joint")).score([("q", "d"), pair])  # type: ignore[list-item]


def test_rankings_can_be_copied_pickled_and_sliced() -> None:
    """A ranking is a plain sequence of plain values."""
    ranking = reranker(FakeScorer("joint")).rerank(QUERY, [{"text": "panda", "id": 1, "page": 2}, "rice"])

    assert pickle.loads(pickle.dumps(ranking)) == copy.deepcopy(ranking) == ranking
    assert [hit.index for hit in ranking[:1]] == [0]
    assert (len(ranking), ranking[0].document.metadata) == (2, {"page": 2})
    assert ranking.to_dict()["hits"][0]["passages"] == [{"start": 0, "stop": 5, "score": ranking[0].score}]


def test_documents_may_be_any_iterable() -> None:
    """A generator of mixed documents is read once and kept in order."""
    ranking = reranker(FakeScorer("joint")).rerank(QUERY, (text for text in ("rice", "panda")))

    assert [hit.document.text for hit in ranking] == ["panda", "rice"]
