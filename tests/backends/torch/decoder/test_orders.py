"""Templates with the document first, or with the query twice, score as plain transformers on the row written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.models.causal import SPEC, load, scorer
from helpers.models.decoder_classifiers import PlainClassifier, tiny_decoder_classifier
from helpers.plain import DOCUMENTS, LONG, PARAGRAPH, QUERIES, PlainCausal, assert_close, cut
from helpers.training import apart, batch_of, gradients, live
from rerank_core import Head, InputError, ModelSpec, Reranker, Template
from rerank_core.testing import ScorerConformance, tiny_causal_lm

QUERY = "Q: {query}\n"
ORDERS = {
    "document first": Template(
        before=("Judge.", "\n"), doc="D: {doc}", between="\n", query=QUERY, after=("\n", "yes?"), order="doc_first"
    ),
    "query twice": Template(before=("Judge.", QUERY), query=QUERY, between="\n", doc="D: {doc}", after="\nyes?"),
    "query again at the end": Template(query=QUERY, doc="D: {doc}\n", after=(QUERY, "yes?", QUERY)),
    "document between queries": Template(
        before=(QUERY, "\n"), doc="D: {doc}", between=("\n", QUERY, "and"), query=QUERY, order="doc_first"
    ),
    "nothing around": Template(order="doc_first"),
}
PIECES: dict[str, Callable[[str, str], list[str]]] = {
    "document first": lambda q, d: ["Judge.", "\n", f"D: {d}", "\n", f"Q: {q}\n", "\n", "yes?"],
    "query twice": lambda q, d: ["Judge.", f"Q: {q}\n", f"Q: {q}\n", "\n", f"D: {d}", "\nyes?"],
    "query again at the end": lambda q, d: [f"Q: {q}\n", f"D: {d}\n", f"Q: {q}\n", "yes?", f"Q: {q}\n"],
    "document between queries": lambda q, d: [f"Q: {q}\n", "\n", f"D: {d}", "\n", f"Q: {q}\n", "and", f"Q: {q}\n"],
    "nothing around": lambda q, d: [d, q],
}
SHARED = {"query twice", "query again at the end"}


def of(name: str, **more: Any) -> ModelSpec:
    return replace(SPEC, template=ORDERS[name], max_length=512, options=(), **more)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("orders"), "qwen3")


@pytest.mark.parametrize("name", list(ORDERS))
def test_scores_are_those_of_the_pieces_in_order(name: str, causal: Path) -> None:
    """Several queries in one call; empty, duplicate and long documents among theirs."""
    plain, reranker = PlainCausal(causal), load(causal, of(name))
    assert (reranker.scorer.layout == "prefix") is (name in SHARED)  # type: ignore[union-attr]
    assert scorer(reranker).packed
    requests = [(QUERIES[0], [*DOCUMENTS, "", DOCUMENTS[1]]), (QUERIES[1], [PARAGRAPH * 3, *DOCUMENTS[:4]])]
    for (query, documents), ranking in zip(requests, reranker.rerank_many(requests), strict=True):
        expected = [plain.score(PIECES[name](query, document), "yes", "no") for document in documents]
        assert_close(expected, ranking.scores())
    for settings in ({"_whole": True}, {"_whole": False, "packed": False}):
        vars(scorer(reranker)).update(settings)
        found = reranker.rerank(QUERIES[0], DOCUMENTS).scores()
        assert_close([plain.score(PIECES[name](QUERIES[0], doc), "yes", "no") for doc in DOCUMENTS], found)


@pytest.mark.parametrize("name", ["document first", "query again at the end"])
def test_windows_keep_the_whole_template_and_the_positions(name: str, causal: Path) -> None:
    """A long document is cut to the room that template and query leave, also where the query is there three times."""
    plain, reranker = PlainCausal(causal), load(causal, of(name), max_length=120)
    query, lead, tail = QUERIES[0], plain.ids("D: "), plain.ids("\n")
    ids = plain.ids(f"D: {LONG}")[len(lead) :]
    written = [plain.ids(piece) for piece in PIECES[name](query, LONG)]
    at = max(range(len(written)), key=lambda number: len(written[number]))
    left, right = ([id_ for piece in part for id_ in piece] for part in (written[:at], written[at + 1 :]))
    if name != "document first":
        right, ids = [*tail, *right], plain.ids(f"D: {LONG}\n")[len(lead) : -len(tail)]
    room = 120 - len(left) - len(lead) - len(right)
    windows = list(cut(ids, room))
    (hit,) = reranker.rerank(query, [LONG])
    expected = [plain.score([[*left, *lead, *window, *right]], "yes", "no") for window in windows]
    assert_close(expected, [passage.score for passage in hit.passages])
    assert (hit.passages[0].start, hit.passages[-1].stop, hit.truncated) == (0, len(LONG), False)

    own = scorer(reranker)
    (asked,), (doc,) = own.tokenize([query], "query"), own.tokenize([PARAGRAPH], "doc")
    row = own.row(asked, doc, 3, 9, (0, 0, 0))
    assert list(row.ids[slice(*row.span)]) == list(doc.ids[3:9])
    assert list(row.ids[slice(*row.segment)]) == [*doc.lead, *doc.ids[3:9], *doc.tail]
    assert own.overhead(asked, doc) + 6 == len(row.ids)


def test_a_document_before_its_query_shares_nothing(causal: Path) -> None:
    """Each row has the query; usage counts it as often as it is computed."""
    reranker = load(causal, of("document first"))
    own, documents = scorer(reranker), [PARAGRAPH, "a bear", "x"]
    (asked,) = own.tokenize([QUERIES[0]], "query")
    rows = [own.overhead(asked, doc) + len(doc) for doc in own.tokenize(documents, "doc")]
    assert own.query_row(asked) is None
    assert reranker.rerank(QUERIES[0], documents).usage.tokens == sum(rows)
    assert min(rows) > len(asked) + sum(own.parts.values())
    with pytest.raises(InputError, match="leaves no room"):
        load(causal, of("document first"), max_length=min(rows) - 1).rerank(QUERIES[0], ["x"])


# Qwen's tokenizer never merges across these seams, for texts that neither begin nor end with white space.
WRITTEN = {
    "Document: {doc} Query: {query} relevant": Template(
        before="Document", doc=": {doc}", between=" Query", query=": {query}", after=" relevant", order="doc_first"
    ),
    "Query: {query} Query: {query} Document: {doc} relevant": Template(
        before=("Query", ": {query}", " Query"),
        query=": {query}",
        between=" Document",
        doc=": {doc}",
        after=" relevant",
    ),
}


@pytest.mark.data
@pytest.mark.parametrize("string", list(WRITTEN))
def test_the_string_written_out_has_the_same_scores(string: str, tmp_path: Path, data: Path) -> None:
    directory = tiny_causal_lm(tmp_path, "qwen2", tokenizer=data / "tokenizers" / "qwen", hidden=16, layers=2)
    tokenizer = AutoTokenizer.from_pretrained(str(directory))
    model = AutoModelForCausalLM.from_pretrained(str(directory), dtype=torch.float32).eval()
    documents = [document for document in DOCUMENTS if document.strip() == document and document]
    expected = []
    for document in documents:
        text = string.replace("{query}", QUERIES[1]).replace("{doc}", document)
        with torch.inference_mode():
            inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
            expected.append(float(model(**inputs).logits[0, -1, 0]))
    spec = replace(SPEC, template=WRITTEN[string], head=Head.last_token(0), options=())
    assert_close(expected, load(directory, spec).rerank(QUERIES[1], documents).scores())


@pytest.mark.parametrize("name", ["document first", "document between queries"])
def test_classifiers_read_the_document_first(name: str, tmp_path: Path) -> None:
    plain = PlainClassifier(tiny_decoder_classifier(tmp_path, "qwen2", padding=0))
    reranker = load(tmp_path, of(name, head=Head.classifier()))
    rows = [[id_ for piece in PIECES[name](QUERIES[0], doc) for id_ in plain.ids(piece)] for doc in DOCUMENTS]
    assert_close([plain.score(row) for row in rows], reranker.rerank(QUERIES[0], DOCUMENTS).scores())


@pytest.mark.parametrize("name", ["document first", "query again at the end"])
def test_training_has_the_same_rows(name: str, causal: Path) -> None:
    """Packed rows have the gradient of padded ones, and their scores are those of serving."""
    module, own = live(causal, of(name, head=Head.last_token("a", "b")))
    module.eval()
    expected, slow = gradients(module, own, packed=False)
    scores, fast = gradients(module, own, packed=True)
    assert own.packed
    assert scores == pytest.approx(expected, abs=1e-5)
    assert apart(fast, slow) < 1e-5
    assert own.forward(batch_of(own)).scores["score"] == pytest.approx(scores.tolist(), abs=1e-5)


@pytest.fixture(scope="module")
def reranker(causal: Path) -> Reranker:
    return load(causal, of("document first"), max_length=128)


class TestConformance(ScorerConformance):
    """The suite that every reranker passes, over a tiny Qwen3 that reads the document first."""
