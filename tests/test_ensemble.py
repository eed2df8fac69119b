"""`Ensemble`: several models over the same documents, as one reranker."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import Any

import pytest

from helpers.models.two_models import DOCUMENTS, FIRST, QUERY, TEXTS, Short, fake, pair
from rerank_core import Batch, Combine, Ensemble, InputError, ModelOption, Output, Tokens
from rerank_core.testing import FakeCascade, FakeListRanker, FakeScorer, FakeSeparate, FakeTextScorer


class Counting(FakeScorer):
    """Counts the texts that it tokenizes."""

    def __init__(self, key: str = "words") -> None:
        super().__init__()
        self.key = key
        self.texts: list[str] = []

    def tokenize(self, texts: Sequence[str], side: Any) -> list[Tokens]:
        self.texts.extend(texts)
        return super().tokenize(texts, side)

    def token_key(self, side: Any) -> str:
        return self.key


def ranks(scores: Sequence[float]) -> list[int]:
    """Ranks from 1; equal scores share the best."""
    return [1 + sum(other > score for other in scores) for score in scores]


def zscores(scores: Sequence[float]) -> list[float]:
    """Scores with mean 0 and standard deviation 1."""
    mean = sum(scores) / len(scores)
    deviation = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    return [(score - mean) / deviation for score in scores]


# ---------------------------------------------------------------------- scores
def alone() -> tuple[list[float], list[float]]:
    """The scores of either model of `pair`."""
    return (
        fake(FakeScorer()).rerank(QUERY, TEXTS).scores(),
        fake(Short()).rerank(QUERY, TEXTS).scores(),
    )


def test_reciprocal_ranks_are_summed_by_weight() -> None:
    """score = 1 / (60 + rank) + 2 / (60 + rank) of the two models; hits have each score by name."""
    first, second = alone()
    ranking = pair(weights=(1, 2)).rerank(QUERY, TEXTS)

    expected = [1 / (60 + a) + 2 / (60 + b) for a, b in zip(ranks(first), ranks(second), strict=True)]
    assert ranking.scores() == pytest.approx(expected)
    assert (ranking.model, ranking.score_space, ranking.activation) == ("overlap+short", "combined", "none")
    for hit in ranking:
        assert list(hit.scores.items()) == [
            ("combined", hit.score),
            ("overlap", first[hit.index]),
            ("short", second[hit.index]),
        ]


def test_a_weighted_mean_of_normalized_scores() -> None:
    """Weights 1 and 3 are a quarter and three quarters; the first stage's share comes off both."""
    first, second = map(zscores, alone())
    ensemble = pair(Combine.weighted(first_stage=0.2), (1, 3))
    mixed = [0.25 * a + 0.75 * b for a, b in zip(first, second, strict=True)]

    assert ensemble.rerank(QUERY, TEXTS).scores() == pytest.approx(mixed)
    with_first = [0.8 * a + 0.2 * b for a, b in zip(mixed, zscores(FIRST), strict=True)]
    ranking = ensemble.rerank(QUERY, TEXTS, first_stage=FIRST)
    assert ranking.scores() == pytest.approx(with_first)
    assert list(ranking[0].scores) == ["combined", "overlap", "short", "first_stage"]


def test_the_first_stage_is_one_more_ranking() -> None:
    """`combine=` takes the place of `by` and reads the documents' scores, which are metadata otherwise."""
    first, second = map(ranks, alone())
    ensemble = pair(Combine.weighted(), (1, 2))
    ranking = ensemble.rerank(QUERY, DOCUMENTS, combine=Combine.rrf(k=1))

    expected = [1 / (1 + a) + 2 / (1 + b) + 1 / (1 + c) for a, b, c in zip(first, second, ranks(FIRST), strict=True)]
    assert ranking.scores() == pytest.approx(expected)
    assert ensemble.rerank(QUERY, DOCUMENTS).scores() == ensemble.rerank(QUERY, TEXTS).scores()


def test_models_of_every_kind_have_ranks() -> None:
    """Cross-encoder, late interaction, texts, lists and a cascade in one ensemble; passages are the first member's."""
    scorers = [FakeScorer(), FakeSeparate(), FakeTextScorer(), FakeListRanker(), FakeCascade([2])]
    ensemble = Ensemble([fake(scorer, f"m{n}") for n, scorer in enumerate(scorers)])
    ranking = ensemble.rerank(QUERY, TEXTS)

    assert ranking[0].index == 0
    assert list(ranking[0].scores) == ["combined", "m0", "m1", "m2", "m3", "m4", "m4:early"]
    assert all(hit.passages[0].score == hit.scores["m0"] for hit in ranking)
    assert ranking.statistics == {"m3": {"calls": 1, "repaired": 0}}
    assert ranking.usage.tokens is None
    assert ranking.usage.passages == 25


def test_one_member_ranks_as_it_does_alone() -> None:
    """An ensemble may have one model, and its order is that model's."""
    ensemble = Ensemble([fake(FakeScorer())], Combine.weighted(normalize="minmax"))

    assert [hit.index for hit in ensemble.rerank(QUERY, TEXTS)] == [
        hit.index for hit in fake(FakeScorer()).rerank(QUERY, TEXTS)
    ]


def test_what_a_member_did_not_read_is_said() -> None:
    """A document is truncated if a member cut it, unknown if one cannot tell; a cut query is said; costs are summed."""
    long = "panda " * 100
    ensemble = Ensemble([fake(FakeScorer(), "a"), fake(FakeScorer(), "b", longdoc="firstp", max_query_length=1)])
    ranking = ensemble.rerank(QUERY, [long, "panda"])

    assert [hit.truncated for hit in sorted(ranking, key=lambda hit: hit.index)] == [True, False]
    assert ranking.query_truncated
    parts = [member.reranker.rerank(QUERY, [long, "panda"]).usage for member in ensemble.members]
    assert ranking.usage.tokens == sum(usage.tokens or 0 for usage in parts)
    assert ranking.usage.passages == sum(usage.passages for usage in parts)
    mixed = Ensemble([fake(FakeScorer(), "a"), fake(FakeTextScorer(), "b")])
    assert mixed.rerank(QUERY, ["panda"])[0].truncated is None


# ---------------------------------------------------------------------- calls
@pytest.mark.parametrize("by", [Combine.rrf(), Combine.weighted(0.4)], ids=["rrf", "weighted"])
def test_every_call_gives_the_same(by: Combine) -> None:
    """One query, many, a stream and a coroutine; no documents; hits are limited by combined scores."""
    ensemble = pair(by)
    expected = ensemble.rerank(QUERY, TEXTS).scores()
    requests: list[Any] = [(QUERY, TEXTS), ("tea", TEXTS), (QUERY, []), (QUERY, TEXTS, FIRST)]

    for rankings in (ensemble.rerank_many(requests), list(ensemble.rerank_stream(iter(requests)))):
        assert [len(ranking) for ranking in rankings] == [5, 5, 0, 5]
        assert rankings[0].scores() == expected
        assert rankings[1].scores() == ensemble.rerank("tea", TEXTS).scores()
        assert rankings[3].scores() == ensemble.rerank(QUERY, TEXTS, first_stage=FIRST).scores()
    assert asyncio.run(ensemble.arerank(QUERY, TEXTS)).scores() == expected
    best = ensemble.rerank(QUERY, TEXTS, top_k=2)
    assert ([hit.index for hit in best], best.scores()) == (
        [hit.index for hit in ensemble.rerank(QUERY, TEXTS)][:2],
        expected,
    )
    assert all(hit.score >= expected[1] for hit in ensemble.rerank(QUERY, TEXTS, min_score=expected[1]))


def test_documents_are_read_and_tokenized_once() -> None:
    """A generator of documents is enough, and each text is tokenized once for all members with one tokenizer."""
    scorers = [Counting(), Counting(), Counting("other")]
    ensemble = Ensemble([fake(scorer, f"m{n}") for n, scorer in enumerate(scorers)])
    ensemble.rerank(QUERY, (text for text in [*TEXTS, TEXTS[0]]))

    assert sorted([*scorers[0].texts, *scorers[1].texts]) == sorted([QUERY, *TEXTS])
    assert sorted(scorers[2].texts) == sorted([QUERY, *TEXTS])


def test_scorers_share_no_tokens_unless_they_say_so() -> None:
    """A scorer without a key, and one with a `tokenize` of its own, tokenize for themselves."""

    class Lower(Counting):
        def tokenize(self, texts: Sequence[str], side: Any) -> list[Tokens]:
            return super().tokenize([text.lower() for text in texts], side)

    scorers = [Counting(), Lower()]
    Ensemble([fake(scorer, f"m{n}") for n, scorer in enumerate(scorers)]).rerank("Panda", ["A PANDA"])

    assert (scorers[0].texts, scorers[1].texts) == (["Panda", "A PANDA"], ["panda", "a panda"])


def test_call_options_go_to_the_members_that_have_them() -> None:
    """An option of one model reaches that one, is checked by it, and is unknown where no member has it."""

    class Scaled(FakeTextScorer):
        def __init__(self, factor: float = 1.0) -> None:
            self.factor = factor

        def configured(self, options: Any) -> FakeTextScorer:
            return Scaled(options["factor"])

        def score(self, query: str, docs: Any) -> list[float]:
            return [self.factor * score for score in super().score(query, docs)]

    option = ModelOption("factor", "float", "scale", default=1.0, when="call")
    ensemble = Ensemble([fake(FakeScorer(), "a"), fake(Scaled(), "b", options=(option,))])
    plain = ensemble.rerank(QUERY, ["panda"])[0].scores
    scaled = ensemble.rerank(QUERY, ["panda"], factor=2.0)[0].scores

    assert (scaled["a"], scaled["b"]) == (plain["a"], 2 * plain["b"])
    with pytest.raises(InputError, match="factor"):
        ensemble.rerank(QUERY, ["panda"], factor="high")
    with pytest.raises(InputError, match=r"unknown option 'factr' for 'a\+b'. Did you mean 'factor'.*top_k"):
        ensemble.rerank(QUERY, ["panda"], factr=2.0)


def test_progress_goes_through_all_members() -> None:
    """The units never go back, and end with all passages of all members."""
    seen: list[tuple[int, int]] = []
    ensemble = pair()
    job = ensemble._job((QUERY, TEXTS * 20), ensemble._call_options({}))
    list(ensemble._rank([job], ensemble._call_options({}), lambda done, total: seen.append((done, total))))

    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    assert all(done <= total for done, total in seen)


def test_a_cancelled_call_stops_between_batches() -> None:
    """Cancelling `arerank` ends the members' work at the next batch."""

    class Slow(FakeScorer):
        def forward(self, batch: Batch) -> Output:
            time.sleep(0.02)
            return super().forward(batch)

    scorers = [Slow("joint", token_budget=1), Slow("joint", token_budget=1)]
    ensemble = Ensemble([fake(scorer, f"m{n}") for n, scorer in enumerate(scorers)])

    async def call() -> None:
        task = asyncio.create_task(ensemble.arerank(QUERY, [f"panda {n}" for n in range(200)]))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(call())
    assert 0 < len(scorers[0].batches) < 100
    assert not scorers[1].batches
