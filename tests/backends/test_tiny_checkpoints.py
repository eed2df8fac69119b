"""The builders that plugin authors get: real layouts, the same bytes every time, nothing left behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from helpers.plain import TEXTS, PlainCrossEncoder
from rerank_core.testing.checkpoints import Family, tiny_cross_encoder, tiny_encoder, tiny_tokenizer

FAMILIES: tuple[Family, ...] = ("xlm-roberta", "bert")


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_the_tokenizer_that_was_saved(family: Family, made: Callable[[Family], Path]) -> None:
    """AutoTokenizer and tokenizer.json give the same ids and types, for one text and for a pair."""
    auto = AutoTokenizer.from_pretrained(str(made(family)))
    raw = Tokenizer.from_file(str(made(family) / "tokenizer.json"))
    for text in TEXTS:
        pair = auto(["what is a panda?"], [text], return_token_type_ids=True)
        ours = raw.encode("what is a panda?", text)

        assert auto(text)["input_ids"] == raw.encode(text).ids
        assert (pair["input_ids"], pair["token_type_ids"]) == ([ours.ids], [ours.type_ids])


def test_xlm_roberta_has_its_special_ids_and_layout() -> None:
    """Ids 0 to 3, the mask last and greedy to its left, ``<s> A </s></s> B </s>``, specials that are pieces too."""
    tokenizer = tiny_tokenizer("xlm-roberta")
    pair = tokenizer.encode("a", "b").tokens

    assert [tokenizer.token_to_id(token) for token in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
    assert tokenizer.token_to_id("<mask>") == tokenizer.get_vocab_size() - 1
    assert tokenizer.get_added_tokens_decoder()[tokenizer.get_vocab_size() - 1].lstrip
    assert [token for token in pair if token.startswith("<")] == ["<s>", "</s>", "</s>", "</s>"]
    assert [piece.value for piece in tokenizer.model.tokenize("a</s>b<mask>")] == ["a", "</s>", "b", "<mask>"]


def test_bert_has_its_layout_and_types() -> None:
    """``[CLS] A [SEP] B [SEP]`` with types 0 and 1, uncased, Chinese by the character."""
    pair = tiny_tokenizer("bert").encode("A panda", "大熊猫")

    assert pair.tokens == ["[CLS]", "a", "panda", "[SEP]", "大", "熊", "猫", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokenizer_is_the_same_in_every_process(family: Family) -> None:
    """Nothing random, no hash order: another process builds the same tokenizer, byte for byte."""
    code = f"from rerank_core.testing.checkpoints import tiny_tokenizer as t; print(t({family!r}).to_str())"
    other = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, encoding="utf-8", env={"PYTHONHASHSEED": "7"}
    )

    assert tiny_tokenizer(family).to_str() == other.stdout.rstrip("\n")


@pytest.mark.parametrize("build", [tiny_cross_encoder, tiny_encoder])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_follow_the_seed_alone(build: Callable[..., Path], family: Family, tmp_path: Path) -> None:
    """One seed, one file, whatever torch's own seed; another seed, other weights; torch's seed is left alone."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    build(tmp_path / "a", family, seed=5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    build(tmp_path / "b", family, seed=5)
    build(tmp_path / "c", family, seed=6)
    digests = [hashlib.sha256((tmp_path / name / "model.safetensors").read_bytes()).digest() for name in "abc"]

    assert digests[0] == digests[1] != digests[2]


def test_building_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No progress bar, no report."""
    tiny_cross_encoder(tmp_path / "a")
    tiny_encoder(tmp_path / "b")

    assert capfd.readouterr() == ("", "")


def test_sizes_are_as_asked(tmp_path: Path) -> None:
    """Layers, width, positions, types, labels and the spread of weights reach the file."""
    directory = tiny_cross_encoder(
        tmp_path / "a", "bert", layers=3, hidden=48, positions=40, types=3, labels=2, std=0.5, seed=1
    )
    weights = load_file(directory / "model.safetensors")

    assert weights["bert.encoder.layer.2.output.dense.weight"].shape == (48, 96)
    assert weights["bert.embeddings.position_embeddings.weight"].shape == (40, 48)
    assert weights["bert.embeddings.token_type_embeddings.weight"].shape == (3, 48)
    assert weights["classifier.weight"].shape == (2, 48)
    assert 0.49 < float(weights["bert.embeddings.word_embeddings.weight"].std()) < 0.51
    assert json.loads((directory / "tokenizer_config.json").read_text("utf-8"))["model_max_length"] == 40


def test_a_head_can_be_left_out(tmp_path: Path) -> None:
    """`head=False` saves a file that lacks the classifier and nothing else."""
    whole = set(load_file(tiny_cross_encoder(tmp_path / "a") / "model.safetensors"))
    headless = set(load_file(tiny_cross_encoder(tmp_path / "b", head=False) / "model.safetensors"))

    assert headless < whole
    assert {name.split(".")[0] for name in whole - headless} == {"classifier"}


@pytest.mark.parametrize("as_file", [True, False])
def test_a_given_tokenizer_is_copied(as_file: bool, made: Callable[[Family], Path], tmp_path: Path) -> None:
    """A tokenizer.json, or a directory with one, is taken as it is, and the model has a row for each of its ids."""
    given = made("bert")
    directory = tiny_cross_encoder(tmp_path / "a", "bert", tokenizer=given / "tokenizer.json" if as_file else given)

    assert (given / "tokenizer.json").read_bytes() == (directory / "tokenizer.json").read_bytes()
    assert PlainCrossEncoder(directory).ids("panda") == PlainCrossEncoder(given).ids("panda")


@pytest.mark.data
@pytest.mark.parametrize(("family", "name"), [("xlm-roberta", "xlm-roberta"), ("bert", "bert-base-chinese")])
def test_a_real_tokenizer_is_copied(
    family: Family, name: str, data: Path, made_with: Callable[[Family, Path], Path]
) -> None:
    """The real tokenizers fit too: special ids found, one embedding row per id."""
    directory = made_with(family, data / "tokenizers" / name)
    tokenizer, config = (
        json.loads((directory / file).read_text("utf-8")) for file in ("tokenizer.json", "config.json")
    )
    pieces = tokenizer["model"]["vocab"]
    ids = dict(pieces) if isinstance(pieces, dict) else {piece: id_ for id_, (piece, _) in enumerate(pieces)}
    ids |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}

    assert len(ids) == config["vocab_size"]
    assert ids["<pad>" if family == "xlm-roberta" else "[PAD]"] == config["pad_token_id"]
