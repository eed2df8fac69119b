"""A document of no tokens is scored: in every layout, beside others, and where no template stands around it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import rerank_core
from helpers.models.causal import layered, loaded
from helpers.plain import PlainCausal, assert_close
from rerank_core import Head, InputError, ModelSpec, Reranker, Template
from rerank_core.backends.torch import scorer_of
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_core.testing.checkpoints import tiny_encoder

# Nothing, and nothing that a tokenizer without such characters keeps.
DOCUMENTS = ("", "pandas eat bamboo", "", "a bear", "熊猫")
BARE = Template(query="Q: {query}", between="\n", doc="{doc}")


@pytest.mark.parametrize("family", ["qwen2", "gpt2", "rwkv"])
@pytest.mark.parametrize("between", ["\n", ""])
def test_the_score_is_read_at_the_last_token_before_the_document(family: str, between: str, tmp_path: Path) -> None:
    """A causal template without text after the document: packed layer by layer, packed whole, and padded."""
    spec = ModelSpec(
        name="t", template=replace(BARE, between=between), head=Head.last_token("yes", "no"), max_length=48
    )
    directory = tiny_causal_lm(tmp_path, family)
    plain = PlainCausal(directory)
    texts = (*DOCUMENTS, "pandas eat bamboo " * 20)
    expected = [plain.score(["Q: bear", between, text], "yes", "no") for text in DOCUMENTS]
    reranker = loaded(directory, spec)

    assert_close(expected, reranker.rerank("bear", DOCUMENTS).scores())
    assert_close(expected[:1], reranker.rerank("bear", DOCUMENTS[:1]).scores())
    assert_close(expected, reranker.score([("bear", text) for text in DOCUMENTS]))
    assert_close(expected, reranker.rerank("bear", texts, longdoc="maxp").scores()[: len(DOCUMENTS)])
    assert_close(expected, reranker.rerank_many([("panda", [""]), ("bear", DOCUMENTS)])[1].scores())


def test_a_prefix_of_one_token_is_enough(tmp_path: Path) -> None:
    """Its only token goes to the rows."""
    spec = ModelSpec(
        name="t", template=Template(query="{query}", doc="{doc}"), head=Head.last_token("yes"), max_length=48
    )
    directory = tiny_causal_lm(tmp_path)
    expected = [PlainCausal(directory).score(["yes", text], "yes") for text in DOCUMENTS]

    assert_close(expected, loaded(directory, spec).rerank("yes", DOCUMENTS).scores())


def _without_specials(directory: Path) -> Path:
    """A tokenizer that adds no token to a text, and keeps nothing of a zero-width space."""
    file = str(directory / "tokenizer.json")
    tokenizer: Any = Tokenizer.from_file(file)
    tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    tokenizer.save(file)
    return directory


def test_a_classifier_reads_the_query_alone(tmp_path: Path) -> None:
    """A pair layout without special tokens; a query of no tokens too is refused, and named."""
    reranker = rerank_core.load(_without_specials(tiny_cross_encoder(tmp_path, "bert")), device="cpu")
    together = reranker.rerank("a panda", DOCUMENTS).scores()

    assert_close([reranker.score([("a panda", text)])[0] for text in DOCUMENTS], together)
    assert len(reranker.rerank("\u200b", ["bear"])) == 1
    with pytest.raises(InputError, match=r"query 0 \('\\u200b'\) and document 1 \(''\) have no tokens"):
        reranker.rerank("\u200b", ["bear", ""])


def test_late_interaction_finds_nothing_in_no_tokens(tmp_path: Path) -> None:
    """0 to every query token, reranked, indexed and explained."""
    spec = ModelSpec(name="t", template=Template.each(), head=Head.maxsim("sum"), max_length=48)
    reranker = loaded(_without_specials(tiny_encoder(tmp_path, "bert")), spec)
    scores = reranker.rerank("a panda", DOCUMENTS).scores()

    assert scores[0] == scores[2] == 0.0
    assert scores[1] != 0.0
    assert_close(scores, reranker.rerank("a panda", reranker.index(DOCUMENTS)).scores())
    assert reranker.rerank("a panda", ["", ""]).scores() == [0.0, 0.0]
    assert not reranker.rerank("a panda", [""], explain=True)[0].matches


def test_a_cascade_carries_an_empty_document(tmp_path: Path) -> None:
    """At every stage it scores as without the cascade."""
    directory = tiny_causal_lm(tmp_path, "llama", tokenizer="sentencepiece", layers=4)
    module, tokenizer = layered(directory, range(1, 5))
    spec = ModelSpec(name="t", template=BARE, head=Head.layers(1), max_length=48)
    scorer: Any = scorer_of(module, tokenizer, spec)
    expected = Reranker.from_scorer(scorer, spec).rerank("bear", DOCUMENTS).scores()
    staged = Reranker.from_scorer(scorer.configured({"cascade": {1: 5, 2: 4}}), spec).rerank("bear", DOCUMENTS)

    assert expected[0] == expected[2]
    last = {hit.index: hit.score for hit in staged if "layer_4" in hit.scores}
    assert len(last) >= 4
    assert_close([expected[index] for index in last], list(last.values()))
