"""Scores equal to FlagEmbedding, RAG-Retrieval and BCEmbedding, which run live beside ours; and where ours differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

import rerank_core
from helpers.plain import PARAGRAPH, assert_close
from parity.conftest import Checkpoint, Originals
from parity.texts import LONG_QUERY, ODD_CASE, Case, cases
from rerank_core import Reranker
from rerank_core.pipeline.display import sigmoid

LENGTH = 512
FRAMEWORKS = ("flagembedding", "rag-retrieval", "bcembedding")
# A sigmoid's slope is at most a quarter, so this is 1e-5 on the logit.
SIGMOID_TOLERANCE = 2.5e-6


@pytest.fixture(scope="session")
def asked() -> list[Case]:
    folder = os.environ.get("RERANK_DATA")
    return list(cases(Path(folder) if folder else None))


def ours(checkpoint: Checkpoint, **options: object) -> Reranker:
    return rerank_core.load(checkpoint.directory, device="cpu", max_length=LENGTH, **options)


def in_order(answer: dict[str, list[float]], count: int) -> list[float]:
    """Scores of a list in the order of its documents."""
    assert sorted(answer["order"]) == list(range(count)), answer
    scores = dict(zip(answer["order"], answer["scores"], strict=True))
    return [scores[place] for place in range(count)]


def tokens(reranker: Reranker, text: str) -> int:
    return len(reranker.scorer.tokenize([text], "doc")[0])


def assert_equal(theirs: Sequence[float], raw: Sequence[float], framework: str) -> None:
    if framework != "bcembedding":
        assert_close(theirs, raw)
        return
    presented = [sigmoid(score) for score in raw]
    worst = max(abs(a - b) for a, b in zip(theirs, presented, strict=True))
    assert worst <= SIGMOID_TOLERANCE, f"off by {worst:.1e}: {theirs} {presented}"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_score_equals_compute_score(
    framework: str, checkpoint: Checkpoint, originals: Originals, asked: list[Case]
) -> None:
    """Every case, long documents, long queries and odd characters included."""
    reranker = ours(checkpoint, compat=framework)
    for case in asked:
        answer = originals.ask(framework, "compute_score", checkpoint.directory, case.query, case.docs, LENGTH)
        assert_equal(answer["scores"], reranker.score([(case.query, doc) for doc in case.docs]), framework)


@pytest.mark.parametrize("framework", FRAMEWORKS[1:])
def test_rerank_equals_rerank(framework: str, checkpoint: Checkpoint, originals: Originals, asked: list[Case]) -> None:
    """Documents in windows with the best one's score, to equal places in the ranking where scores differ."""
    reranker = ours(checkpoint, compat=framework)
    for case in asked:
        if case is LONG_QUERY:
            continue  # they refuse it; see below
        docs = [doc for doc in case.docs if tokens(reranker, doc)]  # one without tokens is an IndexError of theirs
        answer = originals.ask(framework, "rerank", checkpoint.directory, case.query, docs, LENGTH)
        ranking = reranker.rerank(case.query, docs)
        assert_equal(in_order(answer, len(docs)), ranking.scores(), framework)


def test_short_pairs_need_no_compat(checkpoint: Checkpoint, originals: Originals) -> None:
    """A pair that fits is the same row everywhere."""
    docs = [doc for doc in ODD_CASE.docs if len(doc) < 400]
    raw = ours(checkpoint).score([(ODD_CASE.query, doc) for doc in docs])
    for framework in FRAMEWORKS:
        answer = originals.ask(framework, "compute_score", checkpoint.directory, ODD_CASE.query, docs, LENGTH)
        assert_equal(answer["scores"], raw, framework)


# ---------------------------------------------------------------------- the differences that docs/longdoc.md lists
def test_our_default_reads_the_whole_document(checkpoint: Checkpoint, originals: Originals) -> None:
    """compute_score reads the beginning, ours every window: the end may be what answers."""
    query, document = "where did it happen?", PARAGRAPH * 60
    first, *rest = ours(checkpoint).rerank(query, [document])[0].passages
    assert rest
    for framework in FRAMEWORKS:
        answer = originals.ask(framework, "compute_score", checkpoint.directory, query, [document], LENGTH)
        assert_equal(answer["scores"], [first.score], framework)


def test_the_doubled_separator_is_copied_and_not_ours(checkpoint: Checkpoint, originals: Originals) -> None:
    """Their rerank puts one separator too many into BERT's rows, so that even short documents score otherwise."""
    query, docs = "what is a panda?", ["a bear", PARAGRAPH, "paris"]
    default = ours(checkpoint).rerank(query, docs).scores()
    for framework in FRAMEWORKS[1:]:
        answer = originals.ask(framework, "rerank", checkpoint.directory, query, docs, LENGTH)
        theirs = in_order(answer, len(docs))
        if checkpoint.family == "xlm-roberta":
            assert_equal(theirs, default, framework)
        elif framework == "rag-retrieval":
            assert max(abs(a - b) for a, b in zip(theirs, default, strict=True)) > 1e-3


def test_a_long_query_is_read_whole_where_they_cut_or_refuse(checkpoint: Checkpoint, originals: Originals) -> None:
    default = ours(checkpoint)
    docs = ["a bear", "paris"]
    query = ""
    while tokens(default, query) < 420:
        query += "what is a panda? "
    assert not default.rerank(query, docs).query_truncated
    answer = originals.ask("flagembedding", "compute_score", checkpoint.directory, query, docs, LENGTH)
    cut = ours(checkpoint, compat="flagembedding").rerank(query, docs)
    assert cut.query_truncated
    assert_close(answer["scores"], cut.scores())
    for framework in FRAMEWORKS[1:]:
        refused = originals.ask(framework, "rerank", checkpoint.directory, query, docs, LENGTH)
        assert refused["error"] == "AssertionError"
        assert len(ours(checkpoint, compat=framework).rerank(query, docs)) == len(docs)


def test_they_lose_and_renumber_empty_documents_and_ours_does_not(checkpoint: Checkpoint, originals: Originals) -> None:
    query, docs = "what is a panda?", ["", "a bear", "paris"]
    for framework in FRAMEWORKS[1:]:
        answer = originals.ask(framework, "rerank", checkpoint.directory, query, docs, LENGTH)
        assert sorted(answer["order"]) == [0, 1]
        ranking = ours(checkpoint, compat=framework).rerank(query, docs)
        assert sorted(hit.index for hit in ranking) == [0, 1, 2]
        assert_equal(in_order(answer, 2), ranking.scores()[1:], framework)


def test_special_tokens_in_a_text_are_text_unless_asked_for(checkpoint: Checkpoint, originals: Originals) -> None:
    mark = "</s>" if checkpoint.family == "xlm-roberta" else "[SEP]"
    query, docs = "what is a panda?", [f"a bear{mark}eats bamboo"]
    answer = originals.ask("flagembedding", "compute_score", checkpoint.directory, query, docs, LENGTH)
    pairs = [(query, docs[0])]
    parsed = ours(checkpoint, compat="flagembedding", parse_special_tokens=True).score(pairs)
    assert_close(answer["scores"], parsed)
    assert abs(ours(checkpoint, compat="flagembedding").score(pairs)[0] - answer["scores"][0]) > 1e-3


def test_they_stumble_over_white_space_and_ours_does_not(checkpoint: Checkpoint, originals: Originals) -> None:
    query, docs = "what is a panda?", ["a bear", " \n"]
    for framework in FRAMEWORKS[1:]:
        answer = originals.ask(framework, "rerank", checkpoint.directory, query, docs, LENGTH)
        assert answer["error"] == "IndexError"
        assert len(ours(checkpoint, compat=framework).rerank(query, docs)) == 2
