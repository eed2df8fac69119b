"""BERT's tokenizers follow tokenizer_config.json where it contradicts tokenizer.json, as transformers does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rerank_core import CheckpointError
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.spec import encoder_settings
from rerank_core.testing import tiny_encoder

TEXTS = ("The Panda eats", "\u00e9t\u00e9 Panda", "\u718a\u732b\u5403\u7af9\u5b50", "BAMBOO, the")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose tokenizer.json lower-cases."""
    return tiny_encoder(tmp_path / "model", "bert")


def say(folder: Path, file: str = "tokenizer_config.json", **settings: Any) -> None:
    known = json.loads((folder / file).read_text("utf-8")) if (folder / file).exists() else {}
    said = {name: value for name, value in {**known, **settings}.items() if value != "absent"}
    (folder / file).write_text(json.dumps(said), encoding="utf-8")


def ids(folder: Path) -> list[list[int]]:
    return [tokens.ids.tolist() for tokens in TextTokenizer.from_directory(folder).encode(TEXTS)]


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
        {"tokenizer_class": "BertTokenizerFast", "do_lower_case": False, "strip_accents": True},
        {"tokenizer_class": "BertTokenizer", "strip_accents": False},
        {"tokenizer_class": "BertTokenizer", "tokenize_chinese_chars": False},
        {"tokenizer_class": "BertTokenizer", "strip_accents": None},
        {"tokenizer_class": "absent", "do_lower_case": False},
        {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
    ],
    ids=str,
)
def test_the_settings_are_those_of_transformers(folder: Path, settings: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    before = ids(folder)
    say(folder, **settings)
    theirs: Any = AutoTokenizer.from_pretrained(str(folder))
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]

    assert ids(folder) == expected
    generic = settings["tokenizer_class"] == "PreTrainedTokenizerFast" or settings.get("strip_accents", "") is None
    assert (expected == before) == generic


def test_modernbert_reads_tokenizer_json_alone(folder: Path) -> None:
    """As transformers 5 does, whatever class the folder names."""
    from transformers import AutoTokenizer

    before = ids(folder)
    say(folder, tokenizer_class="BertTokenizer", do_lower_case=False)
    (folder / "config.json").write_text(json.dumps({"model_type": "modernbert"}), encoding="utf-8")
    theirs: Any = AutoTokenizer.from_pretrained(str(folder))
    assert ids(folder) == before == [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


def test_settings_that_are_none_are_refused(folder: Path) -> None:
    say(folder, tokenizer_class="BertTokenizer", do_lower_case="no")
    with pytest.raises(CheckpointError, match="do_lower_case is 'no'; it must be true or false"):
        ids(folder)


def test_a_module_that_lower_cases_needs_a_tokenizer_that_does(folder: Path) -> None:
    """sentence-transformers lower-cases there; the tokenizer here would keep the capitals."""
    say(folder, "sentence_bert_config.json", do_lower_case=True)
    assert encoder_settings(folder).max_length is None
    say(folder, tokenizer_class="BertTokenizer", do_lower_case=False)
    with pytest.raises(CheckpointError, match="do_lower_case is True; the tokenizer keeps capitals"):
        encoder_settings(folder)
