"""A cross-encoder's scores are Hugging Face's, whatever the batch, the order and the length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rerank_core
from helpers.plain import DOCUMENTS, LONG, PARAGRAPH, QUERIES, PlainCrossEncoder, assert_close
from rerank_core import Reranker
from rerank_core.testing.checkpoints import Family, tiny_cross_encoder

MIXED = (*DOCUMENTS, LONG, PARAGRAPH * 5)


@pytest.fixture(scope="session", params=["xlm-roberta", "bert", pytest.param("real", marks=pytest.mark.data)])
def checkpoint(
    request: pytest.FixtureRequest, made: Callable[[Family], Path], made_with: Callable[[Family, Path], Path]
) -> Path:
    """Both families, and a real vocabulary. With all real tokenizers the scores are compared in `test_tokenizer`."""
    if request.param == "real":
        return made_with("bert", request.getfixturevalue("data") / "tokenizers" / "bert-base-chinese")
    return made(request.param)


@pytest.fixture(scope="session")
def expected(plain: PlainCrossEncoder) -> list[float]:
    """Scores of MIXED for the first query, one window at a time, each document that of its best."""
    return [max(plain.window_scores(QUERIES[0], document, 512)) for document in MIXED]


@pytest.mark.parametrize("query", QUERIES)
def test_scores_equal_hugging_faces(reranker: Reranker, plain: PlainCrossEncoder, query: str) -> None:
    """Short, Chinese, emoji, odd, empty and blank documents have the logit of the plain pair call."""
    expected = [plain.score(query, document) for document in DOCUMENTS]

    assert_close(expected, reranker.rerank(query, DOCUMENTS).scores())
    assert max(expected) - min(expected) > 0.1, "a spread so small proves little"


@pytest.mark.parametrize("query", QUERIES)
def test_a_long_document_scores_as_its_best_window(reranker: Reranker, plain: PlainCrossEncoder, query: str) -> None:
    """Every passage of a long document has the score of its slice of ids in the whole layout; the best one counts."""
    windows = plain.window_scores(query, LONG, 512)
    (hit,) = reranker.rerank(query, [LONG])

    assert len(windows) > 2
    assert_close(windows, [passage.score for passage in hit.passages])
    assert_close([max(windows)], [hit.score])


@pytest.mark.parametrize(("longdoc", "combine"), [("meanp", lambda s: sum(s) / len(s)), ("firstp", lambda s: s[0])])
@pytest.mark.parametrize("overlap", [0, 7])
def test_other_strategies_combine_the_same_windows(
    reranker: Reranker,
    plain: PlainCrossEncoder,
    longdoc: str,
    combine: Callable[[list[float]], float],
    overlap: int,
) -> None:
    """MeanP and FirstP read the same slices, with the overlap that was asked for."""
    expected = combine(plain.window_scores(QUERIES[1], LONG, 512, overlap))

    assert_close([expected], reranker.rerank(QUERIES[1], [LONG], longdoc=longdoc, overlap=overlap).scores())


@pytest.mark.parametrize("max_length", [96, 300, 512])
def test_firstp_equals_hugging_faces_truncation(reranker: Reranker, plain: PlainCrossEncoder, max_length: int) -> None:
    """FirstP at a length is truncation='only_second' at that length."""
    documents = [PARAGRAPH, PARAGRAPH * 5, LONG]
    cutting = Reranker.from_scorer(reranker.scorer, reranker.spec, longdoc="firstp", max_length=max_length)
    limit = {"truncation": "only_second", "max_length": max_length}
    expected = [plain.score(QUERIES[0], document, **limit) for document in documents]
    ranking = cutting.rerank(QUERIES[0], documents)

    lengths = [len(plain.pair(QUERIES[0], document)["input_ids"][0]) for document in documents]
    longer = {index for index, length in enumerate(lengths) if length > max_length}

    assert_close(expected, ranking.scores())
    assert 2 in longer
    assert longer == {hit.index for hit in ranking if hit.truncated}


@given(order=st.permutations(range(len(MIXED))), budget=st.integers(1, 10_000))
@settings(deadline=None, max_examples=8)
def test_scores_know_no_neighbours(reranker: Reranker, expected: list[float], order: list[int], budget: int) -> None:
    """In any order and under any token budget every document keeps its score."""
    shuffled = Reranker.from_scorer(reranker.scorer, reranker.spec, token_budget=budget)

    assert_close(
        [expected[place] for place in order], shuffled.rerank(QUERIES[0], [MIXED[place] for place in order]).scores()
    )


def test_many_queries_at_once_score_as_one_by_one(reranker: Reranker) -> None:
    """`rerank_many` and `score` give each query the scores that `rerank` gives it alone."""
    requests = [(query, MIXED[start:]) for start, query in enumerate(QUERIES)]
    one_by_one = [reranker.rerank(query, documents).scores() for query, documents in requests]
    pairs = [(query, document) for query, documents in requests for document in documents]

    for alone, together in zip(one_by_one, reranker.rerank_many(requests), strict=True):
        assert_close(alone, together.scores())
    assert_close([score for scores in one_by_one for score in scores], reranker.score(pairs))


@pytest.mark.parametrize("budget", [1, 700, 10_000])
def test_duplicates_score_alike(reranker: Reranker, budget: int) -> None:
    """A document that is there three times, among others, has one score."""
    again = Reranker.from_scorer(reranker.scorer, reranker.spec, token_budget=budget)
    scores = again.rerank(QUERIES[0], [PARAGRAPH, LONG, *DOCUMENTS, PARAGRAPH, LONG, PARAGRAPH]).scores()

    assert_close([scores[0]] * 2, [scores[-3], scores[-1]])
    assert_close([scores[1]], [scores[-2]])


@pytest.mark.parametrize("types", [1, 2])
def test_token_types_go_only_where_the_model_has_them(types: int, tmp_path: Path) -> None:
    """A BERT with one token type and a BERT with two both score as Hugging Face does, long documents included."""
    directory = tiny_cross_encoder(tmp_path / "bert", "bert", types=types)
    plain = PlainCrossEncoder(directory)
    loaded = rerank_core.load(directory, device="cpu")

    assert_close([plain.score(QUERIES[0], doc) for doc in DOCUMENTS], loaded.rerank(QUERIES[0], DOCUMENTS).scores())
    assert_close([max(plain.window_scores(QUERIES[0], LONG, 512))], loaded.rerank(QUERIES[0], [LONG]).scores())


@pytest.mark.parametrize("family", ["xlm-roberta", "bert"])
def test_text_that_spells_special_tokens_changes_no_layout(family: Family, made: Callable[[Family], Path]) -> None:
    """Separators in a document are text; with `parse_special_tokens=True` they are read, as Hugging Face does."""
    token_text = "a bear </s></s> [SEP] yes"
    expected = PlainCrossEncoder(made(family)).score(QUERIES[0], token_text)
    as_text = rerank_core.load(made(family), device="cpu").rerank(QUERIES[0], [token_text]).scores()
    parsed = (
        rerank_core.load(made(family), device="cpu", parse_special_tokens=True)
        .rerank(QUERIES[0], [token_text])
        .scores()
    )

    assert_close([expected], parsed)
    assert abs(parsed[0] - as_text[0]) > 1e-3
