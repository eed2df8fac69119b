"""Every shape of the seam goes through the one path, and the path keeps the caller's books."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from typing import Any

import pytest

from rerank_core import Batch, Head, InputError, NonFiniteScoreError, Output, PluginError, Reranker, Template
from rerank_core.scorer import Permutation
from rerank_core.testing import FakeCascade, FakeListRanker, FakeScorer, FakeSeparate, FakeTextScorer, fake_spec

QUERY = "red panda bamboo"
DOCS = ["the red panda eats bamboo", "nothing here", "", "panda " * 200, "bamboo", "the red panda eats bamboo"]
SEPARATE = {"template": Template.each(), "head": Head.maxsim("mean")}


def reranker(scorer: Any, **options: Any) -> Reranker:
    """A reranker around a fake."""
    return Reranker.from_scorer(scorer, fake_spec(**(SEPARATE if isinstance(scorer, FakeSeparate) else {})), **options)


def test_joint_rows_hold_the_query_and_the_window() -> None:
    """A joint row is start, query, separator, window, separator; its span is the window; rows know their owner."""
    scorer = FakeScorer("joint")
    reranker(scorer).rerank(QUERY, DOCS)
    query = scorer.tokenize([QUERY], "query")[0].ids.tolist()
    rows = [row for batch in scorer.batches for row in batch.rows]

    assert all(not batch.queries for batch in scorer.batches)
    assert all(row.ids[1:4] == query and len(row.ids) <= 64 for row in rows)
    for row in rows:
        doc = scorer.tokenize([DOCS[row.doc]], "doc")[0].ids.tolist()
        window = row.ids[slice(*row.span)]
        assert any(window == doc[start : start + len(window)] for start in range(len(doc) + 1))
    assert {(row.doc, row.window) for row in rows if row.doc != 3} == {(doc, 0) for doc in (0, 1, 2, 4)}
    assert len(rows) == len({(row.doc, row.window) for row in rows})


def test_what_stands_twice_is_computed_once() -> None:
    """Equal texts, in one list or under equal queries, make one row and get its score; their hits stay apart."""
    scorer = FakeScorer("joint")
    rankings = reranker(scorer).rerank_many(
        [(QUERY, ["panda", "tea", "panda"]), (QUERY, ["panda"]), ("tea", ["panda"])]
    )
    rows = [(row.query, row.doc) for batch in scorer.batches for row in batch.rows]

    assert sorted(rows) == [(0, 0), (0, 1), (2, 0)]
    assert rankings[0].scores()[0] == rankings[0].scores()[2] == rankings[1].scores()[0]
    assert [hit.index for hit in rankings[0]] == [0, 2, 1]
    assert rankings[1].usage.tokens == 0


def test_prefix_rows_refer_to_one_query_row() -> None:
    """The shared prefix is laid down once per batch and query, and rows do not repeat it."""
    scorer = FakeScorer("prefix", token_budget=10_000)
    requests = [(QUERY, DOCS), ("nothing", DOCS[:2])]
    rankings = reranker(scorer).rerank_many(requests)

    assert [sorted(batch.queries) for batch in scorer.batches] == [[0, 1]]
    joint = reranker(FakeScorer("joint")).rerank_many(requests)
    same_order = [[hit.index for hit in ranking] for ranking in rankings]
    assert same_order == [[hit.index for hit in ranking] for ranking in joint]


@pytest.mark.parametrize("layout", ["joint", "prefix"])
@pytest.mark.parametrize("budget", [1, 70, 100_000])
def test_batches_keep_to_the_budget(layout: Any, budget: int) -> None:
    """No batch is over the budget unless it is one row."""
    scorer = FakeScorer(layout, token_budget=budget)
    reranker(scorer).rerank(QUERY, DOCS)

    for batch in scorer.batches:
        width = max(len(row.ids) for row in batch.rows) * len(batch.rows)
        assert len(batch.rows) == 1 or width + sum(len(row.ids) for row in batch.queries.values()) <= budget


def test_token_budget_option_wins_over_the_scorers() -> None:
    """`token_budget=` overrides what the scorer suggests."""
    scorer = FakeScorer("joint", token_budget=100_000)
    reranker(scorer, token_budget=1).rerank(QUERY, DOCS[:3])

    assert [len(batch.rows) for batch in scorer.batches] == [1, 1, 1]


def test_separate_rows_can_be_indexed_once() -> None:
    """An index answers a second query without a row of any document, with equal scores."""
    scorer = FakeSeparate()
    with reranker(scorer) as fake:
        index = fake.index(DOCS)
        direct = fake.rerank(QUERY, DOCS)
        before = len(scorer.batches)
        indexed = fake.rerank(QUERY, index)

        assert len(scorer.batches) == before
        assert direct.scores() == indexed.scores()
        assert [hit.passages for hit in direct] == [hit.passages for hit in indexed]
        assert [hit.truncated for hit in direct] == [hit.truncated for hit in indexed]
        assert (len(index), index[1].text, repr(index)) == (
            6,
            "nothing here",
            "Index(6 documents, 9 passages, float32)",
        )
        mixed = fake.rerank_many([("bamboo", DOCS), (QUERY, index)])
        assert [ranking.scores() for ranking in mixed] == [fake.rerank("bamboo", DOCS).scores(), direct.scores()]


def test_index_is_refused_where_it_cannot_be_right() -> None:
    """A model that reads both together, a foreign index and late window options are InputErrors."""
    index = reranker(FakeSeparate()).index(DOCS)
    with pytest.raises(InputError, match="together"):
        reranker(FakeScorer("joint")).index(DOCS)
    with pytest.raises(InputError, match="texts"):
        reranker(FakeTextScorer()).index(DOCS)
    with pytest.raises(InputError, match="another reranker"):
        reranker(FakeSeparate()).rerank(QUERY, index)
    fake = reranker(FakeSeparate())
    with pytest.raises(InputError, match="index is made"):
        fake.rerank(QUERY, fake.index(DOCS), longdoc="firstp")


def test_cascade_carries_the_best_on_with_all_their_windows() -> None:
    """Two documents of each query go on, every window of them; survivors rank above the rest by their late score."""
    scorer = FakeCascade(keep=[2], token_budget=100)
    rankings = reranker(scorer).rerank_many([(QUERY, DOCS), ("bamboo", ["rice", "bamboo", "tea", "bamboo leaf"])])
    names = [[list(hit.scores) for hit in ranking] for ranking in rankings]

    assert names[0] == [["late-1", "early"]] * 2 + [["early"]] * 4
    assert names[1] == [["late-1", "early"]] * 2 + [["early"]] * 2
    assert {hit.index for hit in rankings[0].hits[:2]} == {0, 5}
    assert {hit.index for hit in rankings[1].hits[:2]} == {1, 3}


def test_cascade_scores_equal_the_direct_run() -> None:
    """A survivor scores what it scores when everybody goes on."""
    every = reranker(FakeCascade(keep=[99])).rerank(QUERY, DOCS)
    few = reranker(FakeCascade(keep=[3, 1])).rerank(QUERY, DOCS)
    late = {hit.index: hit.scores["late-1"] for hit in every}

    assert [hit.scores["late-1"] for hit in few if "late-1" in hit.scores] == [
        late[hit.index] for hit in few if "late-1" in hit.scores
    ]
    assert [next(iter(hit.scores)) for hit in few] == ["late-2", "late-1", "late-1", "early", "early", "early"]


def test_cascade_keeps_windows_of_a_long_survivor_together() -> None:
    """A long document goes on whole."""
    scorer = FakeCascade(keep=[1], token_budget=10)
    ranking = reranker(scorer).rerank("panda", ["rice", "panda " * 200])
    windows = len(ranking[0].passages)

    assert (ranking[0].index, windows > 1) == (1, True)
    assert sorted(doc for docs in scorer.resumed for doc in docs) == [1] * windows


def test_text_scorer_takes_whole_texts() -> None:
    """A remote API gets the texts as they are; one passage each, and nobody knows whether it was cut."""
    ranking = reranker(FakeTextScorer()).rerank(QUERY, DOCS)

    assert {hit.index: hit.passages[0].stop for hit in ranking} == {i: len(doc) for i, doc in enumerate(DOCS)}
    assert {hit.truncated for hit in ranking} == {None}
    assert ranking.usage.tokens is None
    with pytest.raises(InputError, match="whole texts"):
        reranker(FakeTextScorer()).rerank(QUERY, DOCS, longdoc="maxp")


def test_list_ranker_gives_ranks_not_scores() -> None:
    """Listwise: score is minus the rank, statistics are kept, pairs have no score, a sigmoid is refused."""
    fake = reranker(FakeListRanker())
    ranking = fake.rerank(QUERY, DOCS)

    assert ranking.score_space == "rank"
    assert [hit.score for hit in ranking] == [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]
    assert ranking.statistics == {"calls": 1, "repaired": 0}
    with pytest.raises(InputError, match="pair"):
        fake.score([(QUERY, "x")])
    with pytest.raises(InputError, match="logits"):
        fake.rerank(QUERY, DOCS, activation="sigmoid")


class Broken(FakeScorer):
    """A scorer that answers what it is told to."""

    def __init__(self, answer: Any) -> None:
        super().__init__("joint", token_budget=10_000)
        self.answer = answer

    def forward(self, batch: Batch) -> Output:
        return Output(self.answer(batch))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_scores_name_their_documents(value: float) -> None:
    """A NaN never sorts: it is an error that names query and documents, by position and id."""
    scorer = Broken(lambda batch: {"score": [value if row.doc == 1 else 0.0 for row in batch.rows]})
    with pytest.raises(NonFiniteScoreError, match=r"1 of query 1 \(id 'b'\)") as caught:
        reranker(scorer).rerank_many([(QUERY, []), (QUERY, ["x", {"text": "y", "id": "b"}])])

    assert caught.value.documents == ((1, 1),)
    assert pickle.loads(pickle.dumps(caught.value)).documents == ((1, 1),)


def test_wrong_number_of_scores_is_the_plugins_fault() -> None:
    """Too few or too many scores are a PluginError, for rows, texts and lists."""

    class ShortText:
        def score(self, query: str, docs: Sequence[str]) -> list[float]:
            return [0.0]

    class LostDocument:
        def rank(self, query: str, docs: Sequence[str]) -> Permutation:
            return Permutation([0] * len(docs))

    for scorer in (Broken(lambda batch: {"score": [0.0]}), ShortText(), LostDocument()):
        with pytest.raises(PluginError):
            reranker(scorer).rerank(QUERY, ["a", "b"])
    with pytest.raises(PluginError, match="neither"):
        reranker(object())


def test_ties_keep_the_callers_order() -> None:
    """Equal scores rank in the order of the list."""
    scorer = Broken(lambda batch: {"score": [0.5] * len(batch.rows)})

    assert [hit.index for hit in reranker(scorer).rerank(QUERY, DOCS)] == [0, 1, 2, 3, 4, 5]


def test_order_survives_a_sigmoid_that_saturates() -> None:
    """Logits 50 and 60 look alike after a sigmoid and still rank apart: the order is that of the raw scores."""
    scorer = Broken(lambda batch: {"score": [50.0 + 10 * row.doc for row in batch.rows]})
    ranking = reranker(scorer).rerank(QUERY, ["a", "b"], activation="sigmoid")

    assert [(hit.index, hit.score) for hit in ranking] == [(1, 1.0), (0, 1.0)]


def test_several_scores_are_kept_and_the_first_ranks() -> None:
    """`Hit.scores` holds every score by name; the first named one ranks."""
    scorer = Broken(lambda b: {"deep": [float(r.doc) for r in b.rows], "flat": [-float(r.doc) for r in b.rows]})
    ranking = reranker(scorer).rerank(QUERY, ["a", "b"])

    assert [hit.scores for hit in ranking] == [{"deep": 1.0, "flat": -1.0}, {"deep": 0.0, "flat": -0.0}]


def test_min_score_is_in_the_shown_space() -> None:
    """`min_score` compares with what the hit shows, and leaves `scores()` whole."""
    scorer = Broken(lambda batch: {"score": [float(row.doc - 1) for row in batch.rows]})
    ranking = reranker(scorer).rerank(QUERY, ["a", "b", "c"], activation="sigmoid", min_score=0.5)

    assert [hit.index for hit in ranking] == [2, 1]
    assert len(ranking.scores()) == 3
    assert ranking.hits[0].rank == 1


def test_query_is_cut_only_on_request_and_reported() -> None:
    """A long query is an error that says what to do; `max_query_length` cuts it and the ranking says so."""
    query = "panda " * 80
    with pytest.raises(InputError, match="max_query_length"):
        reranker(FakeScorer("joint")).rerank(query, ["panda"])
    with pytest.raises(InputError, match=r"has 80 tokens.*with max_length"):
        reranker(FakeSeparate()).rerank(query, ["panda"])
    ranking = reranker(FakeScorer("joint"), max_query_length=10).rerank(query, ["panda"])
    assert ranking.query_truncated is True
    assert reranker(FakeScorer("joint"), max_query_length=10).rerank("panda", ["panda"]).query_truncated is False


def test_usage_counts_what_was_given_to_the_model() -> None:
    """Tokens are those of the rows (and query rows) of the ranking, passages its windows."""
    scorer = FakeScorer("prefix", token_budget=100_000)
    ranking = reranker(scorer).rerank(QUERY, DOCS)
    batch = scorer.batches[0]

    assert ranking.usage.tokens == sum(len(row.ids) for row in batch.rows) + len(batch.queries[0].ids)
    assert ranking.usage.passages == len(batch.rows) + 1, "the last document is the first one over again"
    assert ranking.usage.seconds > 0
