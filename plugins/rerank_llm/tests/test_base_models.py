"""Base models, which have no chat template, asked in plain text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

import rerank_core
from helpers.plain import PlainCausal, assert_close
from rerank_core import CheckpointError
from rerank_core.testing import tiny_causal_lm
from rerank_llm.listwise.prompts import first_token, rankzephyr

QUERY = "what does a panda eat?"
DOCS = ["Pandas eat bamboo for most of the day.", "", "大熊猫吃竹子。", "  two  blanks \n"]


@pytest.mark.parametrize("tokenizer", ["bytes", "gemma"])
def test_a_base_model_needs_a_prompt(tokenizer: Any, tmp_path: Path) -> None:
    """Without a chat template, the caller's prompt is the whole text, after the tokenizer's own first token."""
    tiny_causal_lm(tmp_path, tokenizer=tokenizer)
    raw = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    if tokenizer == "gemma":
        raw.post_processor = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
        raw.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"no chat template.*give prompt="):
        rerank_core.load(f"llm:{tmp_path}", device="cpu")
    reranker = rerank_core.load(f"llm:{tmp_path}", device="cpu", prompt="query {query}\ndocument {doc}\nanswer")
    plain, before = PlainCausal(tmp_path), [2] if tokenizer == "gemma" else []
    texts = [[f"query {QUERY}", "\n", f"document {doc}", "\nanswer"] for doc in DOCS]
    # transformers makes a Gemma tokenizer of its own from this tokenizer.json.
    rows = [[before, *(raw.encode(text, add_special_tokens=False).ids for text in row)] for row in texts]
    assert_close([plain.score(row, "yes", "no") for row in rows], reranker.score([(QUERY, doc) for doc in DOCS]))


@pytest.mark.parametrize("mode", ["generate", "first-token"])
def test_a_listwise_model_reads_plain_text(mode: str, chat: Path, plain: Any) -> None:
    """Messages with a blank line after each, and no text of the chat template."""
    docs = ["bamboo 1", "paris 2", "3"]
    messages = (first_token if mode == "first-token" else rankzephyr)(QUERY, docs)
    ids = [id_ for _, text in messages for id_ in (*plain.ids(text), *plain.ids("\n\n"))]
    model = rerank_core.load(
        "llm-listwise", checkpoint=chat, device="cpu", prompt="plain", mode=mode, max_new_tokens=4, window=3, stride=1
    )
    ranking = model.rerank(QUERY, docs)
    if mode == "first-token":
        logits = plain.logits([*ids, *plain.ids("[")])
        letters = [float(logits[plain.ids(name)[0]]) for name in "ABC"]
        assert [hit.index for hit in ranking] == sorted(range(3), key=lambda place: -letters[place])
    else:
        assert ranking.statistics["prompt_tokens"] == len(ids)
