"""A classifier's template may hold options and literal pieces; rows are those that transformers lays out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

import rerank_core
from helpers.plain import DOCUMENTS, QUERIES, PlainCrossEncoder, assert_close
from rerank_core import Head, InputError, ModelOption, ModelSpec, Options, Reranker, Template
from rerank_core.backends import build

TASK = ModelOption("instruction", "str", "a text before the query", default="find: ", when="call")


def reranker(directory: Path, template: Template, **options: object) -> Reranker:
    spec = ModelSpec(name="own", checkpoint=str(directory), template=template, head=Head.classifier(), options=(TASK,))
    loaded = Options.of(spec, {"device": "cpu", **options})
    return Reranker.from_scorer(build(spec, loaded), spec)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta"])
def test_an_option_is_part_of_the_query(family: str, made: Callable[[str], Path]) -> None:
    """The pair is that of option and query as one text, at load and per call."""
    directory = made(family)
    plain = PlainCrossEncoder(directory)
    loaded = reranker(directory, Template.pair(query="{instruction}{query}"))

    def expected(task: str) -> list[float]:
        return [plain.score(task + QUERIES[0], doc) for doc in DOCUMENTS]

    assert loaded.scorer.packed
    assert_close(expected("find: "), loaded.rerank(QUERIES[0], DOCUMENTS).scores())
    assert_close(expected("what about "), loaded.rerank(QUERIES[0], DOCUMENTS, instruction="what about ").scores())
    assert_close(expected(""), loaded.rerank(QUERIES[0], DOCUMENTS, instruction="").scores())


def test_literal_pieces_are_laid_out_in_one_row(made: Callable[[str], Path]) -> None:
    """Special tokens are those that the template names; all tokens have the first type."""
    directory = made("bert")
    template = Template(before="[CLS]", query="{instruction}{query}", between="[SEP]", doc="{doc}", after="[SEP]")
    loaded = reranker(directory, template)
    model, tokenizer = PlainCrossEncoder(directory).model, AutoTokenizer.from_pretrained(directory)
    expected = []
    for doc in DOCUMENTS:
        row = tokenizer(f"[CLS]find: {QUERIES[0]}[SEP]{doc}[SEP]", add_special_tokens=False, return_tensors="pt")
        with torch.inference_mode():
            expected.append(model(**row).logits[0, 0].item())

    assert_close(expected, loaded.rerank(QUERIES[0], DOCUMENTS).scores())


def test_a_layout_of_other_rows_is_refused(made: Callable[[str], Path]) -> None:
    """Separate rows are no pair, and BCEmbedding's rows have no literal text."""
    with pytest.raises(InputError, match="one row"):
        reranker(made("bert"), Template.each())
    literal = reranker(made("bert"), Template(before="[CLS]"))
    with pytest.raises(InputError, match="leave compat out"):
        literal.scorer.stacked()
    assert rerank_core.load(made("bert"), device="cpu", compat="bcembedding").rerank("a", ["b"])
