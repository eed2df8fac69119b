"""The matches of a hit are the terms of its score: a token of the query, a token of the text, and a weight."""

from __future__ import annotations

import functools
import json
import math
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

import rerank_core
from helpers.models.late import SPEC, TEXTS, reading, saved
from helpers.plain import DOCUMENTS, LONG, PARAGRAPH, QUERIES, Plain, PlainLateInteraction, assert_close
from rerank_core import Head, Hit, InputError, Match, ModelSpec, Reranker, Template, TokenVectors
from rerank_core.testing.checkpoints import Family, tiny_tokenizer

EXPANDED = 24
COLBERT = TokenVectors(skip=tuple(string.punctuation), skip_first=True, expand_to=EXPANDED, expand_with="[MASK]")
MARKED = Template.each(query_marker="[unused0]", doc_marker="[unused1]")
# The needle is in the middle, so that the best passage is seldom the first.
BURIED = PARAGRAPH * 5 + "What is a panda? " * 3 + PARAGRAPH * 5
SHORTER = [text for text in TEXTS if text != LONG]
SPECS: dict[str, ModelSpec] = {
    "sum": SPEC,
    "mean": replace(SPEC, head=Head.maxsim("mean")),
    "colbert": replace(SPEC, template=MARKED, head=Head.maxsim("sum", COLBERT)),
    "colbert mean": replace(SPEC, template=MARKED, head=Head.maxsim("mean", replace(COLBERT, skip_in_queries=True))),
    "literal": replace(SPEC, template=Template.each(query="question: {query} ?", doc="text: {doc} .")),
}


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer with ColBERT's two markers."""
    tokenizer = tiny_tokenizer("bert")
    tokenizer.add_special_tokens([AddedToken(f"[unused{number}]", special=True) for number in range(2)])
    file = tmp_path_factory.mktemp("marked") / "tokenizer.json"
    tokenizer.save(str(file))
    return file


@pytest.fixture(scope="session")
def loaded(marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Reranker]:
    """The same weights under each spec; one model for each set of options."""
    folder = tmp_path_factory.mktemp("loaded")
    made = functools.cache(lambda name: saved(folder / name, SPECS[name], tokenizer=marked))
    return functools.cache(lambda name, **options: rerank_core.load(made(name), device="cpu", **options))


def explained(reranker: Reranker, query: str, documents: Sequence[Any], **options: Any) -> list[Hit]:
    return list(reranker.rerank(query, documents, explain=True, **options))


def check(hit: Hit, tolerance: float = 1e-5) -> None:
    """The weights make the best passage's score, and characters of the text lie inside that passage."""
    best = hit.best_passage
    assert best is not None
    assert math.fsum(match.weight for match in hit.matches) == pytest.approx(best.score, rel=tolerance, abs=tolerance)
    for match in hit.matches:
        if match.document is not None:
            start, stop = match.document
            assert best.start <= start <= stop <= best.stop <= len(hit.document.text)


def bare(hit: Hit) -> list[Match]:
    return [replace(match, weight=0) for match in hit.matches]


def spells(text: str, span: tuple[int, int], token: str) -> bool:
    return text[slice(*span)].lower() == token.removeprefix("##")


# A store does not depend on the spec: one spec has query tokens of its own and leaves tokens out, one has literal text.
@pytest.mark.parametrize(
    ("name", "way"),
    [(name, "direct") for name in SPECS]
    + [(name, way) for name in ("colbert mean", "literal") for way in ("memory", "folder", "float16", "int8")],
)
def test_weights_make_the_score(loaded: Callable[..., Reranker], tmp_path: Path, name: str, way: str) -> None:
    """The weights of the matches sum to the score, for empty, odd and long documents, from texts or an index."""
    reranker = loaded(name)
    documents: Any = [*SHORTER, BURIED]
    if way != "direct":
        precision = way if way in ("float16", "int8") else "float32"
        documents = reranker.index(documents, None if way == "memory" else tmp_path / "index", precision=precision)
    requests = [(query, documents) for query in QUERIES[:2]]
    for hits, plain in zip(reranker.rerank_many(requests, explain=True), reranker.rerank_many(requests), strict=True):
        assert [replace(hit, matches=()) for hit in hits] == list(plain)
        assert not any(hit.matches for hit in plain)
        for hit in hits:
            assert hit.matches
            check(hit)


@pytest.mark.parametrize("longdoc", ["maxp", "meanp", "kmaxp:2", "firstp"])
@pytest.mark.parametrize("indexed", [False, True])
def test_a_long_documents_best_passage_is_explained(
    loaded: Callable[..., Reranker], longdoc: str, indexed: bool
) -> None:
    """Spans are characters of the whole text, for any best passage and any way to combine passages."""
    reranker = loaded("sum", longdoc=longdoc)
    texts = [LONG, BURIED]
    hits = explained(reranker, "What is a panda?", reranker.index(texts) if indexed else texts)
    best = next(hit for hit in hits if hit.document.text == BURIED)
    found = [match for match in best.matches if match.document is not None]

    for hit in hits:
        check(hit)
    assert (len(best.passages) == 1) == (longdoc == "firstp")
    assert all(spells(BURIED, match.document, match.document_token) for match in found if match.document)
    assert len(found) > 3
    assert (best.best_passage is not None and best.best_passage.start > 0) == (longdoc != "firstp")


def test_longdoc_of_the_call_is_followed(loaded: Callable[..., Reranker]) -> None:
    """A call with its own ``longdoc`` or ``overlap`` is explained by the passages of that call."""
    reranker = loaded("sum")
    passages = set()
    for options in ({"longdoc": "firstp"}, {"overlap": 0}, {"longdoc": "meanp", "overlap": 40}):
        hits = explained(reranker, "What is a panda?", [BURIED, LONG], **options)
        passages.add(hits[0].passages)
        for hit in hits:
            check(hit)
    assert len(passages) == 3


@pytest.mark.parametrize("name", SPECS)
def test_characters_spell_the_tokens(loaded: Callable[..., Reranker], name: str) -> None:
    """The span of a token in ASCII text spells the token; tokens of the tokenizer and the template have no span."""
    query, text = "What is a Giant Panda, and what does it eat?", "  The Giant Panda is a BEAR; it EATS bamboo!  "
    (hit,) = explained(loaded(name), query, [text])
    own = {"[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"}

    for match in hit.matches:
        for span, token, of in ((match.query, match.query_token, query), (match.document, match.document_token, text)):
            assert span is None or spells(of, span, token), (span, token)
            assert span is None or token not in own
            assert span is not None or token in own or name == "literal"
    token_text = "".join(query[slice(*match.query)] for match in hit.matches if match.query is not None)
    skipped = string.punctuation if name == "colbert mean" else ""
    assert token_text == "".join(letter for letter in query if letter not in skipped + " ")


def test_tokens_outside_ascii_lie_in_the_text(loaded: Callable[..., Reranker]) -> None:
    """Emoji, combining and full-width characters, lone surrogates: each token is of some characters of its text."""
    reranker = loaded("sum")
    for query in QUERIES:
        for hit in explained(reranker, query, SHORTER):
            for match in hit.matches:
                assert (match.query is None) == (match.query_token in ("[CLS]", "[SEP]"))
                assert (match.document is None) == (match.document_token in ("[CLS]", "[SEP]"))
                for span, text in ((match.query, query), (match.document, hit.document.text)):
                    assert span is None or 0 <= span[0] < span[1] <= len(text)


def test_matches_are_plain_hugging_faces(
    loaded: Callable[..., Reranker], marked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each query token's match is the token that is most like it where both texts are encoded alone."""
    plain = PlainLateInteraction(saved(tmp_path / "plain", tokenizer=marked))
    for query in QUERIES:
        vectors = plain.vectors(plain.ids(query))
        for hit in explained(loaded("sum", max_length=512), query, DOCUMENTS):
            ids = [plain.tokenizer.cls_token_id, *plain.ids(hit.document.text), plain.tokenizer.sep_token_id]
            like = vectors @ plain.vectors(ids[1:-1]).T
            tokens = plain.tokenizer.convert_ids_to_tokens(ids)

            assert len(hit.matches) == len(vectors)
            assert_close(like.max(dim=1).values.tolist(), [match.weight for match in hit.matches])
            for match, row in zip(hit.matches, like, strict=True):
                near = {tokens[place] for place in (row >= row.max() - 1e-4).nonzero().flatten().tolist()}
                assert match.document_token in near


@pytest.mark.parametrize("query", QUERIES)
def test_a_colberts_expansion_matches_and_is_of_no_text(
    loaded: Callable[..., Reranker], marked: Path, tmp_path: Path, query: str
) -> None:
    """The filling tokens have weights and no characters; skipped tokens are in no match of a document."""
    ids = Plain(saved(tmp_path / "plain", tokenizer=marked)).ids(query)
    for hit in explained(loaded("colbert"), query, TEXTS):
        tokens = [match.query_token for match in hit.matches]
        # [CLS] has no vector; the marker, the query's own and [SEP] do, and all else is filled up.
        assert tokens[0] == "[unused0]"
        assert tokens[len(ids) + 1] == "[SEP]"
        assert tokens[len(ids) + 2 :] == ["[MASK]"] * (EXPANDED - len(ids) - 3)
        assert [match.query is None for match in hit.matches] == [not 0 < n <= len(ids) for n in range(len(tokens))]
        assert all(match.document_token not in (*string.punctuation, "[CLS]") for match in hit.matches)
        assert sum(abs(match.weight) > 0 for match in hit.matches if match.query_token == "[MASK]") > 5


def test_a_text_of_skipped_tokens_alone_matches_nothing(tmp_path: Path) -> None:
    """All tokens of a document left out, its score is 0 and the sum of no matches."""
    spec = replace(SPEC, head=Head.maxsim("sum", TokenVectors(skip=("!", "[CLS]", "[SEP]"))))
    reranker = rerank_core.load(saved(tmp_path / "tiny", spec), device="cpu")
    hits = {hit.index: hit for hit in explained(reranker, "a bear!", ["!!", "", "a bear"])}

    assert [(hits[place].score, hits[place].matches) for place in (0, 1)] == [(0.0, ()), (0.0, ())]
    assert len(hits[2].matches) > 1
    check(hits[2])


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_query_of_skipped_tokens_alone_matches_nothing(tmp_path: Path, reduce: Any) -> None:
    """All tokens of a query left out, every score is 0 and the sum of no matches."""
    vectors = TokenVectors(skip=("!", "[CLS]", "[SEP]"), skip_in_queries=True)
    spec = replace(SPEC, head=Head.maxsim(reduce, vectors))
    reranker = rerank_core.load(saved(tmp_path / "tiny", spec), device="cpu")

    assert reranker.rerank("!", ["a bear", "!"]).scores() == [0.0, 0.0]
    assert [hit.matches for hit in explained(reranker, "!", ["a bear", "!"])] == [(), ()]


def test_only_hits_are_explained(loaded: Callable[..., Reranker]) -> None:
    """``top_k`` and ``min_score`` say how many; with an index nothing of a document is read for it."""
    reranker = loaded("sum")
    index = reranker.index(TEXTS)
    every = explained(reranker, QUERIES[0], index)
    own = len(reranker.scorer.query_row(reranker.scorer.tokenize([QUERIES[0]], "query")[0]).ids)  # type: ignore[union-attr]
    with reading(reranker) as seen:
        best = explained(reranker, QUERIES[0], index, top_k=3)

    assert best == every[:3]
    assert set(seen) == {own}
    assert explained(reranker, QUERIES[0], index, min_score=every[1].score) == every[:2]
    assert explained(reranker, QUERIES[0], index, min_score=1e9) == []
    assert explained(reranker, QUERIES[0], []) == []


def test_an_index_and_a_selection_explain_alike(loaded: Callable[..., Reranker], tmp_path: Path) -> None:
    """Of documents given twice too, each hit has the matches that it has alone; many queries are explained each."""
    reranker = loaded("sum")
    index = reranker.index([*SHORTER, BURIED], tmp_path / "index")
    places = [SHORTER.index(PARAGRAPH * 4), 3, 3, len(SHORTER), 0]
    texts = [index[place].text for place in places]
    alone = {(query, text): bare(*explained(reranker, query, [text])) for query in QUERIES for text in texts}
    for given in (texts, index.select(places)):
        rankings = reranker.rerank_many([(query, given) for query in QUERIES], explain=True)
        for query, ranking in zip(QUERIES, rankings, strict=True):
            for hit in ranking:
                assert hit.document.text == texts[hit.index]
                assert bare(hit) == alone[query, hit.document.text]
                check(hit)


def test_a_query_that_is_cut_is_explained_as_it_was_read(loaded: Callable[..., Reranker]) -> None:
    """With ``max_query_length``, only the tokens that were read match."""
    query = "what is a panda and what does it eat"
    ranking = loaded("sum", max_query_length=3).rerank(query, TEXTS, explain=True)

    assert ranking.query_truncated
    for hit in ranking:
        check(hit)
        assert [match.query for match in hit.matches] == [None, (0, 4), (5, 7), (8, 9), None]


@pytest.mark.parametrize("name", SPECS)
def test_a_ranking_with_matches_is_plain_data(loaded: Callable[..., Reranker], name: str) -> None:
    """``to_dict`` is JSON, with every field of every match, None and offsets as they are."""
    ranking = loaded(name).rerank(QUERIES[1], [*TEXTS, {"text": "a bear", "id": 7}], explain=True)
    read = json.loads(json.dumps(ranking.to_dict()))

    for hit, own in zip(ranking, read["hits"], strict=True):
        back = [
            Match(**{**match, **{side: match[side] and tuple(match[side]) for side in ("query", "document")}})
            for match in own["matches"]
        ]
        assert tuple(back) == hit.matches


class Lengths:
    def score(self, query: str, docs: Sequence[str]) -> list[float]:
        return [float(len(doc)) for doc in docs]


def test_a_model_that_compares_no_tokens_says_so(
    loaded: Callable[..., Reranker], made: Callable[[Family], Path]
) -> None:
    """A cross-encoder and a scorer of texts rank, and refuse to explain, even nothing."""
    cross = rerank_core.load(made("bert"), device="cpu")
    lengths = Reranker.from_scorer(Lengths(), ModelSpec(name="lengths", head=Head.classifier()))

    assert loaded("sum").explains
    for reranker in (cross, lengths):
        assert not reranker.explains
        assert len(reranker.rerank("a bear", ["a bear"], explain=False)) == 1
        for documents in (["a bear"], []):
            with pytest.raises(InputError, match=r"cannot explain a score; leave explain out"):
                reranker.rerank("a bear", documents, explain=True)
