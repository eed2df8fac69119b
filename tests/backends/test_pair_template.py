"""A chat template becomes pieces with the tokens of the whole, or is refused, and the message says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from helpers.models.chat_templates import FLAT, decoder_classifier
from rerank_core import CheckpointError, Head, InputError, ModelSpec, Template
from rerank_core.backends.pair_template import with_literal_template
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.testing.decoders import write_tokenizer

QUERY = "what do pandas eat?"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"query": "Q: {query}"}, "leave query and doc out"),
        ({"variables": {"add generation": True}}, "variables"),
        ({"variables": {"tools": []}}, "variables"),
        ({"message_format": "xml"}, "message_format"),
        ({"wrap": "pair", "message_format": "flat"}, "takes no message_format"),
        ({"before": "x"}, "leave it out"),
    ],
)
def test_a_chat_layout_that_makes_no_sense_is_refused(fields: dict[str, Any], said: str) -> None:
    """The text is the chat template's, and its variables are plain values."""
    with pytest.raises(InputError, match=said):
        Template(**{"wrap": "chat", **fields})


ROLES = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}<|im_end|>{% endif %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (ROLES, "does not write each message once"),
        (FLAT.replace("{{ m.content }}", "{{ m.content | trim }}"), "changes the texts or depends on them"),
        (FLAT.replace("{{ m.content }}", "{{ m.content[:2000] }}"), "changes the texts or depends on them"),
        (FLAT.replace("{{ m.content }}", "{{ m.content or 'none' }}"), "changes the texts or depends on them"),
        (FLAT.replace("Judge.", "{% raw %}{doc}{% endraw %}"), r"writes '\{doc\}'"),
        ("{{ raise_exception('no such role') }}", "no such role"),
        ("{% for i in range(10**9) %}{{ i }}{% endfor %}", "Range too big"),
    ],
    ids=["roles", "trims", "cuts", "fills", "placeholder", "raises", "loops"],
)
def test_a_template_that_cannot_be_followed_is_refused(template: str, said: str, tmp_path: Path) -> None:
    """The message says why, and what to write instead."""
    folder = decoder_classifier(tmp_path)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")

    with pytest.raises(CheckpointError, match=said):
        rerank_core.load(folder, device="cpu")


def test_an_instruction_that_would_change_nothing_is_refused(tmp_path: Path) -> None:
    """A template without a place for a system message."""
    folder = decoder_classifier(tmp_path)
    text = FLAT.replace("selectattr('role', 'eq', 'system')", "selectattr('role', 'eq', 'none')")
    (folder / "chat_template.jinja").write_text(text, encoding="utf-8")
    settings = {"model_type": "CrossEncoder", "prompts": {}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")

    assert rerank_core.load(folder, device="cpu").rerank(QUERY, ["x"])
    with pytest.raises(InputError, match="an instruction would change nothing"):
        rerank_core.load(folder, device="cpu", instruction="find answers")


QUERIES = ("what is 3.5 kg?", "熊猫吃什么？", "a\n", " b")
TEXTS = ("pandas eat bamboo", "12 % of it", "大熊猫", "", "two\nlines", "\tx", "- list")


@pytest.mark.parametrize("tokenizer", ["bytes", "gemma"])
@pytest.mark.parametrize("middle", ["\nDocument: ", " | ", "</q><d>", "\n"])
def test_the_pieces_have_the_tokens_of_the_whole(tokenizer: Any, middle: str, tmp_path: Path) -> None:
    """Whatever the words of the vocabulary, divided where the tokenizer never merges."""
    write_tokenizer(tmp_path, tokenizer)
    template = "Query: {{ messages[0].content }}" + middle + "{{ messages[1].content }}!"
    (tmp_path / "chat_template.jinja").write_text(template, encoding="utf-8")
    spec = ModelSpec(name="own", template=Template.chat("flat"), head=Head.last_token("yes", "no"))
    try:
        pieces = with_literal_template(spec, {}, tmp_path, tmp_path).template
    except CheckpointError as error:
        assert "may merge the texts" in str(error)  # noqa: PT017 -- some tokenizers merge everywhere
        assert tokenizer == "gemma"
        return
    raw = TextTokenizer.from_directory(tmp_path, parse_special_tokens=True).raw

    def ids(text: str) -> list[int]:
        return list(raw.encode(text, add_special_tokens=False).ids)

    for query in QUERIES:
        for text in TEXTS if middle != "\n" else TEXTS[:3]:
            parts = (pieces.query.replace("{query}", query), pieces.doc.replace("{doc}", text))
            whole = ids(f"Query: {query}{middle}{text}!")
            assert [id_ for part in (parts[0], *pieces.between, parts[1], *pieces.after) for id_ in ids(part)] == whole
