"""Tokenizers made from metadata give the ids of the originals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from helpers.gguf.tokenizers import sentencepiece_pieces, tokenizer_metadata
from helpers.plain import TEXTS
from rerank_core import CheckpointError
from rerank_core.backends.gguf.tokenizer import tokenizer_files
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.spec.gguf.header import GgufHeader
from rerank_core.spec.untrusted_files import JsonObject

MARK = "\n__ggml_vocab_test__\n"
# The folder of a real tokenizer, and llama.cpp's ids of its own vocabulary of the same kind.
REAL = {
    "bert-base-uncased": "bert-bge", "bert-base-chinese": None, "qwen": "qwen2",
    "xlm-roberta": None,
}  # fmt: skip
XLM_R = {"tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 2}


def made(metadata: Mapping[str, Any], architecture: str = "llama") -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of some metadata, and its settings."""
    values = {"general.architecture": architecture, f"{architecture}.context_length": 64, **metadata}
    values = {key: list(value) if isinstance(value, bytes) else value for key, value in values.items()}
    whole, settings = tokenizer_files(GgufHeader(Path("m.gguf"), JsonObject(values, Path("m.gguf")), {}))
    return Tokenizer.from_str(json.dumps(whole)), settings


def assert_equal(original: Tokenizer, ours: Tokenizer, texts: Iterable[str]) -> None:
    """The same ids, without added tokens, one text and a pair."""
    original.no_truncation()
    original.no_padding()
    for text in texts:
        for special in (False, True):
            expected, found = (each.encode(text, add_special_tokens=special) for each in (original, ours))
            assert (found.ids, found.offsets) == (expected.ids, expected.offsets), text
    expected, found = original.encode("a panda", "熊猫"), ours.encode("a panda", "熊猫")
    assert (found.ids, found.type_ids) == (expected.ids, expected.type_ids)


@pytest.mark.parametrize("name", ["qwen2", "bert", "xlm-roberta"])
def test_the_ids_of_a_tiny_tokenizer(name: str, family: Callable[[str], Path]) -> None:
    """Byte-level BPE, WordPiece and Unigram."""
    folder = family(name)
    ours, settings = made(tokenizer_metadata(folder), "bert" if name in ("bert", "xlm-roberta") else name)
    original = Tokenizer.from_file(str(folder / "tokenizer.json"))
    # The tiny Unigram's normalizer is not precompiled, so the metadata cannot hold it.
    texts = [text for text in TEXTS if original.normalizer.normalize_str(text) == text] if "xlm" in name else TEXTS
    assert_equal(original, ours, texts)
    theirs = json.loads((folder / "tokenizer_config.json").read_text())
    for role in ("bos_token", "cls_token", "pad_token", "eos_token"):
        if role in theirs and not (role == "cls_token" and "xlm" in name):
            assert settings[role] == theirs[role]


@pytest.mark.parametrize(("name", "first"), [("llama", "<s>"), ("gemma", "<bos>")])
def test_the_ids_of_a_tiny_sentencepiece_model(name: str, first: str, family: Callable[[str], Path]) -> None:
    """Merges follow from the scores; the file's switches decide about the first token."""
    metadata = tokenizer_metadata(family(name))
    ours, settings = made(metadata)
    original = Tokenizer.from_file(str(family(name) / "tokenizer.json"))
    for text in TEXTS:
        expected = original.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False).ids == expected
        assert ours.encode(text).ids == [original.token_to_id(first), *expected]
    assert settings["bos_token"] == first
    switched, _ = made({**metadata, "tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": True})
    assert switched.encode("panda").tokens[0] != first
    assert switched.encode("panda").tokens[-1] == settings["eos_token"]


def test_tokens_of_a_user_are_found_first_and_kept_whole(family: Callable[[str], Path]) -> None:
    """User-defined pieces are no special tokens, and runs of spaces among them are merged before all else."""
    metadata = tokenizer_metadata(family("gemma"))
    tokens = [*metadata["tokenizer.ggml.tokens"], "<table>", "  ", "   "]
    types = [*metadata["tokenizer.ggml.token_type"], 4, 4, 4]
    scores = [*metadata["tokenizer.ggml.scores"], -1000.0, -1000.0, -1000.0]
    more = {"tokens": tokens, "token_type": types, "scores": scores}
    ours, _ = made({**metadata, **{f"tokenizer.ggml.{key}": value for key, value in more.items()}})
    rows = TextTokenizer(ours).encode(["a<table>  panda   bear", "<end_of_turn>"])
    found, special = ([ours.id_to_token(id_) for id_ in row.ids] for row in rows)
    assert found == ["a", "<table>", "▁▁", "panda", "▁▁▁", "bear"]
    assert "<end_of_turn>" not in special


def assert_golden(original: Tokenizer, ours: Tokenizer, folder: Path, name: str | None) -> None:
    """The ids of the original, and those of llama.cpp where there are any."""
    golden: list[tuple[str, str]] = []
    if name is not None:
        texts = (folder / "golden_llama_cpp" / f"ggml-vocab-{name}.gguf.inp").read_text().split(MARK)
        lines = (folder / "golden_llama_cpp" / f"ggml-vocab-{name}.gguf.out").read_text().splitlines()
        golden = list(zip(texts, lines, strict=False))
        assert len(golden) >= 46
    original.no_truncation()
    for text in (*TEXTS, *(text for text, _ in golden)):
        expected = original.encode(text, add_special_tokens=False).ids
        assert ours.encode(text, add_special_tokens=False).ids == expected, text
    for text, line in golden:
        assert ours.encode(text, add_special_tokens=False).ids == [int(id_) for id_ in line.split()], text


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_the_ids_of_real_tokenizers(name: str, data: Path, tmp_path: Path) -> None:
    """On texts of every kind, and llama.cpp's own ids of its test texts."""
    folder, source = data / "tokenizers", data / "tokenizers" / name
    if name == "xlm-roberta":
        source = cut(source, tmp_path)
    ours, _ = made({**(XLM_R if name == "xlm-roberta" else {}), **tokenizer_metadata(source)})
    assert_golden(Tokenizer.from_file(str(source / "tokenizer.json")), ours, folder, REAL[name])


def cut(source: Path, target: Path) -> Path:
    """The first 60,000 pieces of XLM-R's 250,002, with all the rest of its tokenizer: four seconds less to read."""
    whole = json.loads((source / "tokenizer.json").read_text())
    whole["model"]["vocab"] = whole["model"]["vocab"][:60_000]
    whole["added_tokens"] = [token for token in whole["added_tokens"] if token["id"] < 60_000]
    (target / "tokenizer.json").write_text(json.dumps(whole))
    return target


@pytest.mark.data
@pytest.mark.parametrize(("rule", "name"), [("llama-bpe", "llama3"), ("gpt-2", "gpt2-roberta")])
def test_words_are_split_as_by_real_tokenizers(rule: str, name: str, family: Callable[[str], Path], data: Path) -> None:
    """The rules alone: these vocabularies take seconds to read."""
    metadata = {**tokenizer_metadata(family("qwen2")), "tokenizer.ggml.pre": rule}
    ours, settings = made({**metadata, "tokenizer.ggml.bos_token_id": 1})
    whole = json.loads((data / "tokenizers" / name / "tokenizer.json").read_text())
    original = json.loads(ours.to_str())
    original["pre_tokenizer"], original["normalizer"] = whole["pre_tokenizer"], whole["normalizer"]
    assert_equal(Tokenizer.from_str(json.dumps(original)), ours, TEXTS)
    assert original["model"]["ignore_merges"] == whole["model"]["ignore_merges"]
    assert ours.encode("a").tokens == [*([settings["bos_token"]] if rule == "llama-bpe" else []), "a"]


@pytest.mark.data
def test_the_ids_of_llama_2(data: Path) -> None:
    """Its SentencePiece model, as the converter reads it, against its tokenizer.json and llama.cpp's ids."""
    folder = data / "tokenizers"
    pieces = list(sentencepiece_pieces((folder / "llama2" / "tokenizer.model").read_bytes()))
    names = ("tokens", "scores", "token_type")
    metadata: dict[str, Any] = {
        f"tokenizer.ggml.{name}": [piece[place] for piece in pieces] for place, name in enumerate(names)
    }
    special = {"bos": 1, "eos": 2, "unknown": 0}
    metadata.update({f"tokenizer.ggml.{name}_token_id": id_ for name, id_ in special.items()})
    ours, _ = made({"tokenizer.ggml.model": "llama", **metadata})
    original = Tokenizer.from_file(str(folder / "llama2" / "tokenizer.json"))
    assert_golden(original, ours, folder, "llama-spm")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("qwen2", {"pre": "unheard-of"}, "is 'unheard-of', a rule for splitting.*qwen2, llama-bpe"),
        ("qwen2", {"pre": None}, "is 'default', a rule"),
        ("qwen2", {"merges": ["a b", "ab"]}, "holds 'ab'"),
        ("qwen2", {"merges": []}, "merges is empty"),
        ("qwen2", {"model": "rwkv"}, "tokenizer.ggml.model is 'rwkv'"),
        ("qwen2", {"tokens": []}, "no tokenizer"),
        ("qwen2", {"token_type": [1]}, "an integer for each of the"),
        ("qwen2", {"eos_token_id": 1 << 20}, "eos_token_id is 1048576; there are"),
        ("llama", {"tokens": ["a" * 2000]}, "has 2000 characters, and 1024 are the most"),
        ("llama", {"scores": [0.5]}, "a finite number for each"),
        ("llama", {"scores": None}, "a finite number for each"),
        ("xlm-roberta", {"precompiled_charsmap": [1, 300]}, "must hold bytes"),
        ("xlm-roberta", {"bos_token_id": None}, "no bos or eos"),
    ],
)
def test_metadata_that_cannot_be_a_tokenizer_are_refused(
    name: str, values: dict[str, Any], said: str, family: Callable[[str], Path]
) -> None:
    changed = {f"tokenizer.ggml.{key}": value for key, value in values.items()}
    metadata = {**tokenizer_metadata(family(name)), **changed}
    with pytest.raises(CheckpointError, match=said):
        made({key: value for key, value in metadata.items() if value is not None})
