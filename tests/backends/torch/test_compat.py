"""``compat=``: rows as the original frameworks make them. That scores come out equal is tested live in tests/parity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import rerank_core
from helpers.plain import PARAGRAPH
from rerank_core import InputError
from rerank_core.planning.longdoc import longest_first
from rerank_core.scorer import Stackable
from rerank_core.testing.checkpoints import Family


def hugging_face_cut(query: int, doc: int, max_length: int) -> tuple[int, int]:
    """What the tokenizers package keeps of two texts under ``longest_first``, with three special tokens."""
    raw = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    raw.enable_truncation(max_length, strategy="longest_first")
    marks = raw.encode("a " * query, "a " * doc).sequence_ids
    return marks.count(0), marks.count(1)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(5, 60))
def test_longest_first_is_that_of_hugging_face(query: int, doc: int, max_length: int) -> None:
    assert longest_first(query, doc, max_length - 3) == hugging_face_cut(query, doc, max_length)


@pytest.fixture(params=["rag-retrieval", "bcembedding"])
def windowed(request: pytest.FixtureRequest) -> str:
    """A framework whose rerank cuts windows, and whose compute_score cuts the pair."""
    framework: str = request.param
    return framework


def test_stacked_rows_have_one_separator_more_on_bert(made: Callable[[Family], Path]) -> None:
    """BCEmbedding appends a separator to the query's own row, which ends in one already; its type is the second."""
    reranker = rerank_core.load(made("bert"), device="cpu")
    scorer = reranker.scorer
    assert isinstance(scorer, Stackable)
    query, doc = scorer.tokenize(["a bear", "paris"], "query")
    row = scorer.stacked().row(query, doc, 0, len(doc), (0, 0, 0))
    cls, sep = (scorer.tokenizer.raw.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    assert list(row.ids) == [cls, *query.ids, sep, sep, *doc.ids, sep]
    assert list(row.types or []) == [0] * (len(query) + 2) + [1] * (len(doc) + 2)
    assert scorer.stacked().overhead(query, doc) == len(row.ids) - len(doc)
    assert list(scorer.row(query, doc, 0, len(doc), (0, 0, 0)).ids) == [cls, *query.ids, sep, *doc.ids, sep]


def test_stacked_rows_are_the_pair_layout_on_xlm_r(made: Callable[[Family], Path]) -> None:
    scorer = rerank_core.load(made("xlm-roberta"), device="cpu").scorer
    assert isinstance(scorer, Stackable)
    query, doc = scorer.tokenize(["a bear", "paris"], "query")
    owner = (0, 0, 0)
    assert scorer.stacked().row(query, doc, 0, len(doc), owner) == scorer.row(query, doc, 0, len(doc), owner)


def test_pairs_are_cut_and_lists_windowed(windowed: str, made: Callable[[Family], Path]) -> None:
    """score is their compute_score, rerank their rerank: equal on XLM-R to our FirstP and MaxP for a short query."""
    ours = rerank_core.load(made("xlm-roberta"), device="cpu")
    theirs = rerank_core.load(made("xlm-roberta"), device="cpu", compat=windowed)
    query, docs = "what is a panda?", ["paris", PARAGRAPH * 60]
    assert theirs.score([(query, doc) for doc in docs]) == ours.score([(query, doc) for doc in docs], longdoc="firstp")
    ranking = theirs.rerank(query, docs)
    assert ranking.scores() == ours.rerank(query, docs).scores()
    assert len(max(ranking, key=lambda hit: len(hit.passages)).passages) > 1


def test_what_a_framework_cuts_is_reported(made: Callable[[Family], Path]) -> None:
    long = PARAGRAPH * 40
    ranking = rerank_core.load(made("xlm-roberta"), device="cpu", compat="flagembedding").rerank(long, ["paris", long])
    assert ranking.query_truncated
    assert {hit.index: hit.truncated for hit in ranking} == {0: False, 1: True}
    assert not rerank_core.load(made("xlm-roberta"), device="cpu").rerank("paris", ["a", long]).query_truncated


def test_a_query_limit_of_the_caller_replaces_the_frameworks(made: Callable[[Family], Path]) -> None:
    """FlagEmbedding's query_max_length is our max_query_length."""
    long = "panda " * 500
    by_share = rerank_core.load(made("xlm-roberta"), device="cpu", compat="flagembedding", max_length=128)
    by_limit = rerank_core.load(
        made("xlm-roberta"), device="cpu", compat="flagembedding", max_length=128, max_query_length=96
    )
    assert by_share.rerank(long, [long]).scores() == by_limit.rerank(long, [long]).scores()


def test_no_more_than_their_characters_are_read(windowed: str, made: Callable[[Family], Path]) -> None:
    """They read 128,000 characters of a document (most are blanks, which have no tokens); the hit says that the rest
    was not read."""
    document = "panda".ljust(127_995) + "panda panda panda"
    reranker = rerank_core.load(made("xlm-roberta"), device="cpu", compat=windowed)
    hit = reranker.rerank("panda", [document])[0]
    assert hit.truncated
    assert hit.passages[-1].stop == 128_000
    assert not reranker.rerank("panda", [document[:128_000]])[0].truncated


def test_queries_that_share_a_text_are_cut_by_each_document(windowed: str, made: Callable[[Family], Path]) -> None:
    """Under longest_first the query's share depends on its document, and copies still have one score."""
    reranker = rerank_core.load(made("bert"), device="cpu", compat=windowed)
    query = PARAGRAPH * 20
    docs = ["a bear", PARAGRAPH * 30, "a bear", PARAGRAPH * 3]
    together = reranker.score([(query, doc) for doc in docs])
    alone = [reranker.score([(query, doc)])[0] for doc in docs]
    assert together == pytest.approx(alone, abs=1e-5)
    assert together[0] == together[2]


def test_bad_requests(made: Callable[[Family], Path]) -> None:
    directory = made("xlm-roberta")
    with pytest.raises(InputError, match=r"'vllm'.*'flagembedding', 'rag-retrieval', 'bcembedding'"):
        rerank_core.load(directory, device="cpu", compat="vllm")
    with pytest.raises(InputError, match="leave longdoc and overlap out"):
        rerank_core.load(directory, device="cpu", compat="bcembedding", longdoc="meanp")
    with pytest.raises(InputError, match="left out"):
        rerank_core.load("mini", device="cpu", compat="bcembedding")
    reranker = rerank_core.load(directory, device="cpu", compat="bcembedding")
    with pytest.raises(InputError, match=r"\['overlap'\] cannot be set; leave them out"):
        reranker.rerank("panda", ["paris"], overlap=3)
    tight = rerank_core.load(directory, device="cpu", compat="bcembedding", max_length=4)
    with pytest.raises(InputError, match="max_length=4 leaves no token"):
        tight.score([("panda", "paris")])
