"""`rerank(combine=...)`: the retriever's score in every kind of call, for every kind of scorer."""

from __future__ import annotations

import asyncio
import itertools
import math
from decimal import Decimal
from typing import Any

import pytest

from rerank_core import Combine, Document, InputError, ModelOption, Output, Ranking, Reranker
from rerank_core.testing import FakeCascade, FakeListRanker, FakeScorer, FakeSeparate, FakeTextScorer, fake_spec

QUERY = "red panda bamboo"
TEXTS = ["red panda bamboo", "a panda", "tea", "panda and bamboo", "bamboo tea"]
FIRST = [1.0, 5.0, 4.0, 2.0, 3.0]
DOCUMENTS = [{"text": text, "id": n, "score": score} for n, (text, score) in enumerate(zip(TEXTS, FIRST, strict=True))]


def reranker(scorer: Any, **options: Any) -> Reranker:
    """A reranker around a fake."""
    return Reranker.from_scorer(scorer, fake_spec(), **options)


def rrf(scores: list[float], k: float = 60) -> list[float]:
    """1 / (k + rank) of each document, where no two are equal."""
    ranks = {score: rank for rank, score in enumerate(sorted(scores, reverse=True), start=1)}
    return [1 / (k + ranks[score]) for score in scores]


def test_the_sum_of_both_ranks() -> None:
    """Scores are in the caller's order, hits sorted by them, and each hit has every score by name."""
    fake = reranker(FakeScorer())
    ours = fake.rerank(QUERY, TEXTS).scores()
    ranking = fake.rerank(QUERY, DOCUMENTS, combine=Combine.rrf())

    expected = [a + b for a, b in zip(rrf(ours), rrf(FIRST), strict=True)]
    assert ranking.scores() == pytest.approx(expected)
    assert [hit.index for hit in ranking] == sorted(range(5), key=lambda doc: -expected[doc])
    assert [hit.rank for hit in ranking] == [1, 2, 3, 4, 5]
    assert (ranking.score_space, ranking.activation, ranking.model) == ("combined", "none", "fake")
    for hit in ranking:
        assert list(hit.scores) == ["combined", "fake", "first_stage"]
        assert dict(hit.scores) == {"combined": hit.score, "fake": ours[hit.index], "first_stage": FIRST[hit.index]}
        assert hit.passages[0].score == ours[hit.index]
    assert ranking.to_dict()["hits"][0]["scores"] == dict(ranking[0].scores)


def test_the_score_of_a_document_is_metadata_unless_asked_for() -> None:
    """Without `combine=` the key `score` changes nothing and comes back."""
    ranking = reranker(FakeScorer()).rerank(QUERY, DOCUMENTS)

    assert ranking.scores() == reranker(FakeScorer()).rerank(QUERY, TEXTS).scores()
    assert ranking.score_space == "logit"
    assert all(hit.document.metadata == {"score": FIRST[hit.index]} for hit in ranking)


def test_the_argument_wins_over_the_metadata() -> None:
    """`first_stage=` is used alone; None in it is missing, whatever the document's score."""
    combine = Combine.weighted(1.0, missing="worst")
    given = reranker(FakeScorer()).rerank(QUERY, DOCUMENTS, combine=combine, first_stage=(n for n in range(5)))

    assert [hit.index for hit in given] == [4, 3, 2, 1, 0]
    ranking = reranker(FakeScorer()).rerank(QUERY, DOCUMENTS, combine=combine, first_stage=[None, 1, 2, 3, 4])
    hit = next(hit for hit in ranking if hit.index == 0)
    assert list(hit.scores) == ["combined", "fake"]
    assert ranking.scores()[0] == ranking.scores()[1]


def test_another_key_and_distances() -> None:
    """`field` names the key, `lower_is_better` reads distances; hits show the number as it was given."""
    documents = [Document(text, metadata={"distance": distance}) for text, distance in zip(TEXTS, FIRST, strict=True)]
    combine = Combine.weighted(1.0, "minmax", field="distance", lower_is_better=True)
    ranking = reranker(FakeScorer()).rerank(QUERY, documents, combine=combine)

    assert [hit.index for hit in ranking] == [0, 3, 4, 2, 1]
    assert ranking.scores() == [1.0, 0.0, 0.25, 0.75, 0.5]
    assert ranking[0].scores["first_stage"] == 1.0


class Api(FakeTextScorer):
    """A text scorer, so that each call of the pipeline meets one."""


@pytest.mark.parametrize(
    "scorer", [FakeScorer(), FakeScorer("prefix"), FakeSeparate(), Api()], ids=lambda s: str(type(s))
)
@pytest.mark.parametrize("combine", [Combine.rrf(), Combine.weighted(0.4)], ids=["rrf", "weighted"])
def test_every_call_gives_the_same(scorer: Any, combine: Combine) -> None:
    """One query, many, a stream, a coroutine, the metadata and the argument: equal scores."""
    fake = reranker(scorer)
    expected = fake.rerank(QUERY, DOCUMENTS, combine=combine)
    requests = [(QUERY, TEXTS, FIRST), ("tea", DOCUMENTS), (QUERY, DOCUMENTS, None), (QUERY, [])]

    def check(rankings: list[Ranking]) -> None:
        assert [len(ranking) for ranking in rankings] == [5, 5, 5, 0]
        assert rankings[0].scores() == rankings[2].scores() == expected.scores()
        assert rankings[1].scores() == fake.rerank("tea", DOCUMENTS, combine=combine).scores()

    check(fake.rerank_many(requests, combine=combine))
    check(list(fake.rerank_stream(iter(requests), combine=combine)))
    for documents, first_stage in ((DOCUMENTS, None), (TEXTS, FIRST)):
        awaited = asyncio.run(fake.arerank(QUERY, documents, first_stage=first_stage, combine=combine))
        assert awaited.scores() == expected.scores()


def test_an_index_is_ranked_with_its_documents_scores() -> None:
    """The documents of an index, and of a selection, have their scores; the argument is in the selection's order."""
    fake = reranker(FakeSeparate())
    combine = Combine.weighted(0.4)
    index = fake.index(DOCUMENTS)
    chosen = [4, 0, 2]

    assert (
        fake.rerank(QUERY, index, combine=combine).scores() == fake.rerank(QUERY, DOCUMENTS, combine=combine).scores()
    )
    selected = fake.rerank(QUERY, index.select(chosen), combine=combine)
    plain = fake.rerank(
        QUERY, [TEXTS[doc] for doc in chosen], first_stage=[FIRST[doc] for doc in chosen], combine=combine
    )
    assert selected.scores() == plain.scores()


def test_cascades_and_lists_have_ranks_only() -> None:
    """Documents of a later stage rank first, then by score; a weighted mean of either is refused."""
    cascade = reranker(FakeCascade([2]))
    alone = cascade.rerank(QUERY, TEXTS)
    assert {hit.stage for hit in alone} == {0, 1}
    for fake, hits in ((cascade, alone), (listwise := reranker(FakeListRanker()), listwise.rerank(QUERY, TEXTS))):
        ranking = fake.rerank(QUERY, TEXTS, first_stage=FIRST, combine=Combine.rrf(), min_score=0.0)
        best = {(hit.stage, hit.score): hit.rank for hit in reversed(hits)}  # equal ones share the best rank
        ours = {hit.index: 1 / (60 + best[hit.stage, hit.score]) for hit in hits}
        assert ranking.scores() == pytest.approx([ours[n] + first for n, first in enumerate(rrf(FIRST))])
        assert {hit.stage for hit in ranking} == {0}
        with pytest.raises(InputError, match=r"'fake' gives .*Combine\.rrf"):
            fake.rerank(QUERY, TEXTS, first_stage=FIRST, combine=Combine.weighted())
    assert fake.rerank(QUERY, TEXTS, first_stage=FIRST, combine=Combine.rrf()).statistics == {"calls": 1, "repaired": 0}


def test_ranks_of_a_remote_model_are_ranks() -> None:
    """What a model says about its scores counts, whatever its scorer is."""
    fake = Reranker.from_scorer(FakeTextScorer(), fake_spec(score_space="rank"))
    with pytest.raises(InputError, match="an order without scores"):
        fake.rerank(QUERY, DOCUMENTS, combine=Combine.weighted())


def test_other_scores_of_a_model_are_kept() -> None:
    """Where a model has several scores, the one that ranks has the model's name and the others theirs behind it."""

    class Two(FakeScorer):
        def forward(self, batch: Any) -> Output:
            scores = super().forward(batch).scores["score"]
            return Output({"late": scores, "early": [0.5] * len(scores)})

    hit = reranker(Two()).rerank(QUERY, ["panda"], first_stage=[1], combine=Combine.rrf())[0]

    assert list(hit.scores) == ["combined", "fake", "fake:early", "first_stage"]
    assert (hit.scores["fake"], hit.scores["fake:early"]) == (hit.best_passage.score, 0.5)  # type: ignore[union-attr]


def test_a_models_name_takes_no_other_key() -> None:
    """A model that is called `combined` has a key of its own."""
    fake = Reranker.from_scorer(FakeScorer(), fake_spec("combined"))
    hit = fake.rerank(QUERY, ["panda"], first_stage=[1], combine=Combine.rrf())[0]

    assert list(hit.scores) == ["combined", "combined#2", "first_stage"]


def test_hits_are_limited_by_the_combined_score() -> None:
    """`top_k` and `min_score` look at combined scores; `scores()` has all."""
    fake = reranker(FakeScorer())
    combine = Combine.weighted(1.0, "minmax")
    best = fake.rerank(QUERY, DOCUMENTS, combine=combine, top_k=2)
    above = fake.rerank(QUERY, DOCUMENTS, combine=combine, min_score=0.5)

    assert [hit.index for hit in best] == [1, 2]
    assert [hit.index for hit in above] == [1, 2, 4]
    assert best.scores() == above.scores() == [0.0, 1.0, 0.75, 0.25, 0.5]


def test_equal_combined_scores_stay_in_the_callers_order() -> None:
    """Two documents with swapped ranks tie, in either order of the list."""
    for texts, first in ((["panda", "tea"], [1, 2]), (["tea", "panda"], [2, 1])):
        ranking = reranker(FakeScorer()).rerank(QUERY, texts, first_stage=first, combine=Combine.rrf())
        assert [hit.index for hit in ranking] == [0, 1]
        assert ranking[0].score == ranking[1].score


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, r"document 1 has nan \(float\)"),
        (-math.inf, "document 1 has -inf"),
        (True, r"document 1 has True \(bool\)"),
        ("0.5", r"document 1 has '0.5' \(str\)"),
        ([1], "document 1 has"),
        (10**400, "document 1 has"),
        (None, "document 1 has no"),
    ],
)
def test_a_score_that_is_no_number_is_named(value: object, said: str) -> None:
    """The document's position is said, for the argument, the metadata and a request of many; no model is called."""
    scorer = FakeScorer()
    fake = reranker(scorer)
    documents = [{"text": "a", "score": 1}, {"text": "b", "score": value}]
    for combine in (Combine.rrf(), Combine.weighted(0.2)):
        with pytest.raises(InputError, match=said):
            fake.rerank(QUERY, documents, combine=combine)
        with pytest.raises(InputError, match=said):
            fake.rerank(QUERY, ["a", "b"], first_stage=[Decimal(1), value], combine=combine)
        with pytest.raises(InputError, match=said.replace("document 1", "document 1 of query 1")):
            fake.rerank_many([(QUERY, []), (QUERY, ["a", "b"], [1, value])], combine=combine)
    assert scorer.batches == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"combine": Combine.rrf()}, r"document 0 has no 'score' in the metadata.*missing='worst'"),
        ({"combine": Combine.rrf(field="bm25")}, "no 'bm25' in the metadata"),
        ({"combine": Combine.rrf(), "first_stage": [1.0]}, "1 scores.*2 documents"),
        ({"combine": Combine.rrf(), "first_stage": itertools.count()}, "more scores.*2 documents"),
        ({"combine": Combine.rrf(), "first_stage": 3}, "first_stage is 3"),
        ({"combine": Combine.rrf(), "first_stage": "12"}, "first_stage is '12'"),
        ({"combine": Combine.rrf(), "first_stage": {0: 1.0, 1: 2.0}}, "list of one number per document"),
        ({"first_stage": [1.0, 2.0]}, r"without combine.*Combine\.rrf"),
        ({"combine": "rrf"}, r"combine is 'rrf'.*Combine\.rrf\(\)"),
        ({"combine": Combine}, "combine is"),
        ({"combine": Combine.rrf(), "first_stage": [1, 2], "activation": "sigmoid"}, "activation='sigmoid' has no"),
        ({"combine": Combine.rrf(), "first_stage": [1, 2], "activation": "default"}, "activation='default' has no"),
    ],
)
def test_calls_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    """Each is an InputError that says what to do."""
    with pytest.raises(InputError, match=said):
        reranker(FakeScorer()).rerank(QUERY, ["a", "b"], **given)


def test_where_activations_and_scores_of_pairs_have_no_place() -> None:
    """A sigmoid of `load` is refused too; `none` is what happens; pairs have no first stage, nor has a whole list."""
    combine = Combine.rrf()
    loaded = reranker(FakeScorer(), activation="sigmoid")
    with pytest.raises(InputError, match="given to load"):
        loaded.rerank(QUERY, ["a"], first_stage=[1], combine=combine)
    fake = reranker(FakeScorer(), activation="none")
    assert fake.rerank(QUERY, ["a"], first_stage=[1], combine=combine, activation="none")[0].score == 2 / 61
    with pytest.raises(InputError, match=r"combine=.*no effect"):
        fake.score([(QUERY, "a")], combine=combine)
    with pytest.raises(InputError, match=r"first_stage=.*no effect"):
        fake.score([(QUERY, "a")], first_stage=[1.0])
    with pytest.raises(InputError, match=r"\(query, documents, first_stage\)"):
        fake.rerank_many([(QUERY, ["a"])], first_stage=[1.0], combine=combine)
    with pytest.raises(InputError, match=r"request 0 is .*first_stage"):
        fake.rerank_many([(QUERY, ["a"], [1.0], 2)], combine=combine)


def test_a_stream_gives_what_came_before_a_bad_score() -> None:
    """The rankings of earlier requests come first, then the error names the query."""
    stream = reranker(FakeScorer()).rerank_stream([(QUERY, ["a"], [1]), (QUERY, ["a"], ["x"])], combine=Combine.rrf())

    assert len(next(stream)) == 1
    with pytest.raises(InputError, match="document 0 of query 1 has 'x'"):
        next(stream)


def test_no_model_gives_combined_scores_of_its_own() -> None:
    """`combined` is no score space of a model, and `first_stage` and `combine` are no options of one."""
    with pytest.raises(InputError, match="score_space is 'combined'"):
        fake_spec(score_space="combined")
    for name in ("combine", "first_stage"):
        spec = fake_spec(options=(ModelOption(name, "float", "of the model", default=1.0),))
        with pytest.raises(Exception, match=f"reserved: \\['{name}'\\]"):
            Reranker.from_scorer(FakeScorer(), spec)
