"""Folders of encoder-decoders: what is missing or wrong is a CheckpointError that names it; adapters; live modules."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from helpers.models.seq2seq import SPEC, load, prompt
from helpers.plain import DOCUMENTS, QUERIES, PlainEncoderDecoder, assert_close
from rerank_core import CheckpointError, Head, InputError, Reranker, Template, write_spec
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.trainable import Trainable
from rerank_core.scorer import Batch
from rerank_core.testing import tiny_causal_lm, tiny_encoder_decoder

PAIRS = [(QUERIES[0], text) for text in DOCUMENTS[:6]]


def changed(directory: Path, **settings: Any) -> Path:
    """The folder with other settings in its config.json; None removes a setting."""
    file = directory / "config.json"
    values = {**json.loads(file.read_text(encoding="utf-8")), **settings}
    file.write_text(json.dumps({name: value for name, value in values.items() if value is not None}), encoding="utf-8")
    return directory


def without(directory: Path, name: str) -> Path:
    """The folder without one tensor."""
    from safetensors.torch import load_file, save_file

    file = str(directory / "model.safetensors")
    tensors = load_file(file)
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, file, {"format": "pt"})
    return directory


def test_folder_with_reranker_json_loads_by_its_path(tmp_path: Path) -> None:
    directory = tiny_encoder_decoder(tmp_path)
    expected = load(directory).score(PAIRS)
    write_spec(SPEC, directory)
    assert_close(expected, rerank_core.load(directory, device="cpu").score(PAIRS))


def test_output_layer_that_is_neither_tied_nor_there_is_refused(tmp_path: Path) -> None:
    """transformers ties it without a word."""
    directory = without(tiny_encoder_decoder(tmp_path, "flan-t5"), "lm_head.weight")
    for settings in ({}, {"tie_word_embeddings": False, "scale_decoder_outputs": None}):
        with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
            load(changed(directory, **settings))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    name = "decoder.block.1.layer.1.EncDecAttention.k.weight"
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load(without(tiny_encoder_decoder(tmp_path), name))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decoder_start_token_id": 10**6}, "decoder_start_token_id is 1000000; it must be a token id, 0 to"),
        ({"decoder_start_token_id": -1}, "decoder_start_token_id is -1"),
        ({"num_decoder_layers": 3}, "num_decoder_layers"),
        ({"num_layers": 1}, "layers"),
        ({"d_ff": 63}, "shapes"),
        ({"d_kv": 10**9}, "d_kv"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        load(changed(tiny_encoder_decoder(tmp_path), **settings))


def test_first_decoder_token_must_be_known(tmp_path: Path) -> None:
    directory = changed(tiny_encoder_decoder(tmp_path), decoder_start_token_id=None)
    (directory / "generation_config.json").unlink()
    with pytest.raises(CheckpointError, match="no decoder_start_token_id"):
        load(directory)


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_absurd_sizes_inside_t5gemma_are_refused(side: str, tmp_path: Path) -> None:
    """Its config.json nests the sizes of encoder and decoder; they are bounded by the weights too."""
    directory = tiny_encoder_decoder(tmp_path, "t5gemma")
    inner = json.loads((directory / "config.json").read_text(encoding="utf-8"))[side]
    with pytest.raises(CheckpointError, match="intermediate_size"):
        load(changed(directory, **{side: {**inner, "intermediate_size": 10**9}}))


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    directory = tiny_encoder_decoder(tmp_path)
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError):
        load(directory)


def test_weights_of_another_kind_of_model_are_refused(tmp_path: Path) -> None:
    """A decoder whose config.json claims to be an encoder-decoder."""
    with pytest.raises(CheckpointError):
        load(changed(tiny_causal_lm(tmp_path), is_encoder_decoder=True))


def test_pair_templates_and_labels_of_two_tokens_are_refused(tmp_path: Path) -> None:
    directory = tiny_encoder_decoder(tmp_path)
    with pytest.raises(InputError, match="encoder-decoder takes Template"):
        load(directory, replace(SPEC, template=Template.pair()))
    with pytest.raises(CheckpointError, match="token id 99999"):
        load(directory, replace(SPEC, head=Head.last_token(99999)))


def test_adapters_are_merged(tmp_path: Path) -> None:
    """A LoRA adapter's folder scores as peft does with the base model."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    plain = PlainEncoderDecoder(tiny_encoder_decoder(tmp_path / "base"))
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules=["q", "wo"], init_lora_weights=False, task_type="SEQ_2_SEQ_LM"
    )
    torch.manual_seed(1)
    plain.model = peft.get_peft_model(plain.model, config).eval()
    plain.model.save_pretrained(str(tmp_path / "lora"))
    file = tmp_path / "lora" / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**settings, "base_model_name_or_path": str(tmp_path / "base")}), encoding="utf-8")
    expected = [plain.score(prompt(query, text), "true", "false") for query, text in PAIRS]
    base = load(tmp_path / "base").score(PAIRS)
    assert max(abs(a - b) for a, b in zip(base, expected, strict=True)) > 0.01
    assert_close(expected, load(tmp_path / "lora").score(PAIRS))


@pytest.mark.parametrize("family", ["t5", "t5gemma"])
def test_live_modules_are_scored_and_trained(family: Any, tmp_path: Path) -> None:
    """A module in memory keeps its output layer, its scores follow its weights, and gradients reach them."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    auto: Any = AutoModelForSeq2SeqLM
    directory = tiny_encoder_decoder(tmp_path, family)
    module, tokenizer = auto.from_pretrained(directory).train(), AutoTokenizer.from_pretrained(directory)
    own = scorer_of(module, tokenizer, SPEC)
    reranker = Reranker.from_scorer(own, SPEC)
    scores = reranker.score(PAIRS)
    assert_close(load(directory).score(PAIRS), scores)
    assert module.training
    assert isinstance(own, Trainable)

    (query,), docs = own.tokenize([QUERIES[0]], "query"), own.tokenize(list(DOCUMENTS[:6]), "doc")
    rows = [own.row(query, doc, 0, len(doc), (0, number, 0)) for number, doc in enumerate(docs)]
    module.eval()
    batch = Batch({}, rows)
    trained = own.parts_from(module(**own.forward_inputs(batch, packed=own.packed)), batch)["scores"]
    assert_close(scores, trained.tolist())
    trained.sum().backward()
    assert module.get_output_embeddings().weight.grad.abs().sum() > 0

    with torch.no_grad():
        module.get_output_embeddings().weight.neg_()
    assert max(abs(a - b) for a, b in zip(scores, reranker.score(PAIRS), strict=True)) > 0.01
