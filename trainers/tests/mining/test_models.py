"""Mining with models: candidates scored again, or a late-interaction index instead of BM25."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import Reranker
from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import FakeListRanker, fake_spec, tiny_cross_encoder
from rerank_trainers.mining import BM25, Corpus, LateInteractionRetriever, MiningRules, MiningStatistics, mine

TEXTS = tuple(
    f"The {animal} {verb} {food}{rest}"
    for animal in ("giant panda", "red panda", "bear", "otter")
    for verb in ("eats", "finds")
    for food in ("bamboo", "fish", "a flat tyre")
    for rest in (".", " in the mountains of central China.")
)
ROWS = [
    TrainingRow(f"what does the {animal} eat?", (f"The {animal} eats {food}.",), (1.0,), id=f"{animal} {food}")
    for animal in ("giant panda", "red panda", "bear")
    for food in ("bamboo", "fish")
]


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Reranker:
    """Random weights and a real tokenizer; its scores are logits."""
    return rerank_core.load(tiny_cross_encoder(tmp_path_factory.mktemp("tiny")), device="cpu")


@pytest.fixture(scope="module")
def mini() -> Reranker:
    """The real small late-interaction model."""
    return rerank_core.load("mini", device="cpu")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.of(TEXTS)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("activation", [None, "none"])
def test_rescored_negatives_are_the_models_own_order(
    cross_encoder: Reranker, corpus: Corpus, activation: str | None
) -> None:
    """Negatives and margins are those of the model's scores of every candidate and positive, computed one by one."""
    rules = MiningRules(negatives=4, depth=20, from_rank=2, relative_margin=0.05)
    bm25 = BM25(corpus.texts)
    after = list(mine(ROWS, corpus, bm25, rules, rescore=cross_encoder, activation=activation))
    for before, row in zip(ROWS, after, strict=True):
        relevant = {doc for other in ROWS if other.query == before.query for doc in other.docs}
        scores = bm25.scores(before.query)
        ranked = sorted(range(len(corpus)), key=lambda place: (-scores[place], place))
        found = [TEXTS[place] for place in ranked if scores[place] > 0 and TEXTS[place] not in relevant][:20]
        raw = cross_encoder.score([(before.query, text) for text in [*found, before.docs[0]]])
        shown = raw if activation == "none" else [sigmoid(score) for score in raw]
        limit = shown[-1] - 0.05 * abs(shown[-1])
        order = sorted(range(len(found)), key=lambda place: -raw[place])[1:]
        assert row.docs[1:] == tuple(found[place] for place in order if shown[place] <= limit)[:4]
    assert any(len(row.docs) > 1 for row in after)


@pytest.mark.parametrize("model", ["none", "cross_encoder"])
def test_a_run_that_starts_anywhere_gives_the_same_rows(model: str, cross_encoder: Reranker, corpus: Corpus) -> None:
    """Starting at any row gives what an uninterrupted run gives from there on, and counts those rows alone."""
    again = cross_encoder if model == "cross_encoder" else None
    # 1024 / 256: rows are scored in fours, so that most starts are inside a block.
    rules = MiningRules(negatives=3, depth=255, strategy="random", relative_margin=0.01)
    bm25 = BM25(corpus.texts)
    whole = list(mine(ROWS, corpus, bm25, rules, rescore=again))
    for start in range(len(ROWS) + 1):
        figures = MiningStatistics()
        assert list(mine(ROWS, corpus, bm25, rules, rescore=again, start=start, statistics=figures)) == whole[start:]
        assert figures.rows == len(ROWS) - start
        assert figures.candidates == 0 or start < len(ROWS)


def test_rows_are_scored_in_the_same_company_wherever_a_run_starts(
    cross_encoder: Reranker, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan's last bits depend on what else is in it, so a run that starts inside a block scores the block."""
    asked: list[list[str]] = []
    scored = Reranker.rerank_many

    def watched(self: Reranker, requests: Any, **options: Any) -> Any:
        asked.append([query for query, _ in requests])
        return scored(self, requests, **options)

    monkeypatch.setattr(Reranker, "rerank_many", watched)
    rules, bm25 = MiningRules(depth=255), BM25(corpus.texts)
    list(mine(ROWS, corpus, bm25, rules, rescore=cross_encoder, start=5))
    list(mine(ROWS, corpus, bm25, rules, rescore=cross_encoder, start=2))
    last, both = [row.query for row in ROWS[4:]], [row.query for row in ROWS]
    assert asked == [last, both[:4], last]


def test_late_interaction_searches_the_whole_corpus(mini: Reranker, corpus: Corpus) -> None:
    """Negatives are the best of all texts by the model, words in common or not, without the query's positives."""
    after = list(
        mine(ROWS, corpus, LateInteractionRetriever(mini, corpus.texts), MiningRules(negatives=6, from_rank=3))
    )
    for before, row in zip(ROWS, after, strict=True):
        relevant = {doc for other in ROWS if other.query == before.query for doc in other.docs}
        hits = [hit.document.text for hit in mini.rerank(before.query, TEXTS) if hit.document.text not in relevant]
        assert row.docs[1:] == tuple(hits[2:8])
    with pytest.raises(InputError):
        LateInteractionRetriever(Reranker.from_scorer(FakeListRanker(), fake_spec("lists")), corpus.texts)


def test_late_interaction_keeps_its_embeddings_and_has_margins(mini: Reranker, corpus: Corpus, tmp_path: Path) -> None:
    """An index from a folder gives what one in memory gives, and no negative scores above 95 % of the positive."""
    rules = MiningRules(negatives=50, relative_margin=0.05)
    first, second = (
        list(mine(ROWS, corpus, LateInteractionRetriever(mini, corpus.texts, tmp_path / "index"), rules))
        for _ in range(2)
    )
    assert first == second == list(mine(ROWS, corpus, LateInteractionRetriever(mini, corpus.texts), rules))
    for row in first:
        positive, *others = mini.rerank(row.query, row.docs).scores()
        assert others
        assert max(others) <= 0.95 * positive + 1e-5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rules": {"relative_margin": 0.05}}, "listwise model, which gives an order and no scores"),
        ({"activation": "sigmoid"}, "needs logits"),
        ({"activation": "softmax"}, "activation is 'softmax'"),
    ],
)
def test_what_a_models_scores_cannot_mean_is_refused(settings: dict[str, Any], message: str, corpus: Corpus) -> None:
    """Margins of ranks, and a sigmoid of what is no logit, are errors before anything is chosen."""
    lists = Reranker.from_scorer(FakeListRanker(), fake_spec("lists"))
    rules = MiningRules(**settings.get("rules", {}))
    with pytest.raises(InputError, match=message):
        list(mine(ROWS, corpus, BM25(corpus.texts), rules, rescore=lists, activation=settings.get("activation")))


def test_a_listwise_model_may_choose_by_rank(corpus: Corpus) -> None:
    """Without margins its order alone decides."""
    lists = Reranker.from_scorer(FakeListRanker(), fake_spec("lists"))
    rules = MiningRules(negatives=2, depth=10)
    (row, *_) = mine(ROWS, corpus, BM25(corpus.texts), rules, rescore=lists)
    by_words, *_ = mine(ROWS, corpus, BM25(corpus.texts), MiningRules(negatives=10, depth=10))
    candidates = by_words.docs[1:]
    # The model's list holds the positive too, which moves ranks of equals but not the order of the others.
    order = [candidates[hit.index] for hit in lists.rerank(row.query, candidates)]
    assert row.docs[1:] == tuple(order[:2])


def test_activation_without_a_model_is_refused(corpus: Corpus) -> None:
    """BM25's scores have no activation."""
    with pytest.raises(InputError, match="give a model with rescore"):
        list(mine(ROWS, corpus, BM25(corpus.texts), MiningRules(), activation="sigmoid"))
