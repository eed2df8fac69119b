"""Alibaba's NEW encoders load as transformers' gte, by the hub's names of tensors, with the same rotary embedding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import rerank_core
from helpers.models.encoder_folders import encoder_folder
from helpers.plain import DOCUMENTS, LONG, QUERIES, assert_close
from rerank_core import CheckpointError
from rerank_core.backends.torch.configuration import configuration
from rerank_core.backends.torch.load_weights import load_module, quiet
from rerank_core.testing import ScorerConformance
from rerank_core.testing.checkpoints import tiny_cross_encoder

HUB = "Alibaba-NLP/new-impl"
# The settings of gte-multilingual-reranker-base, and sizes of a tiny one.
SETTINGS: dict[str, Any] = {
    "architectures": ["NewForSequenceClassification"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {
        "AutoConfig": f"{HUB}--configuration.NewConfig",
        "AutoModel": f"{HUB}--modeling.NewModel",
        "AutoModelForSequenceClassification": f"{HUB}--modeling.NewForSequenceClassification",
    },
    "classifier_dropout": 0.0,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 32,
    "id2label": {"0": "LABEL_0"},
    "intermediate_size": 64,
    "label2id": {"LABEL_0": 0},
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 8192,
    "model_type": "new",
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "pack_qkv": True,
    "pad_token_id": 1,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "torch_dtype": "float32",
    "type_vocab_size": 1,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
}
INSIDE_A_LAYER = {
    "self_attn.o_proj": "attention.o_proj",
    "post_attention_layernorm": "attn_ln",
    "post_mlp_layernorm": "mlp_ln",
    "mlp.down_proj": "mlp.down_proj",
}


def hub_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A native module's tensors under the names and in the shapes of the hub's checkpoints."""
    named: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if ".layers." not in name:
            named[name.replace("gte.", "new.", 1)] = tensor
            continue
        _, _, number, rest = name.split(".", 3)
        layer, (inner, _, kind) = f"new.encoder.layer.{number}", rest.rpartition(".")
        if inner in INSIDE_A_LAYER:
            named[f"{layer}.{INSIDE_A_LAYER[inner]}.{kind}"] = tensor
        elif inner == "self_attn.q_proj":
            three = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            named[f"{layer}.attention.qkv_proj.{kind}"] = torch.cat(three)
        elif inner == "mlp.up_proj":
            named[f"{layer}.mlp.up_gate_proj.{kind}"] = torch.cat([tensor, state[name.replace("up_", "gate_")]])
    return named


def folder(directory: Path, **changes: Any) -> Path:
    """A tiny gte-multilingual-reranker as on the hub: code of its own, its own names."""
    tiny_cross_encoder(directory, "xlm-roberta")
    vocabulary = json.loads((directory / "config.json").read_text("utf-8"))["vocab_size"]
    settings = {**SETTINGS, "vocab_size": vocabulary, **changes}
    (directory / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    module = native(directory)
    generator = torch.Generator().manual_seed(0)
    for name, weights in module.named_parameters():
        if weights.dim() > 1 or name.endswith("bias"):
            torch.nn.init.normal_(weights, std=0.3, generator=generator)
    save_file(
        {name: one.contiguous() for name, one in hub_names(module.state_dict()).items()},
        str(directory / "model.safetensors"),
    )
    return directory


def native(directory: Path) -> Any:
    """transformers' own class with the settings that the code of the hub means."""
    settings = json.loads((directory / "config.json").read_text("utf-8"))
    kept = {name: settings[name] for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")}
    config = transformers.GteConfig(**kept, intermediate_size=64, num_labels=1, pad_token_id=1)
    module = transformers.GteForSequenceClassification(config).eval()
    width, factor = 16, settings["rope_scaling"]["factor"]
    base = settings["rope_theta"] * factor
    # NTKScalingRotaryEmbedding of the hub's modeling.py
    module.gte.rotary_emb.inv_freq = 1 / base ** (torch.arange(0, width, 2).float() / width) / factor ** (2 / width)
    return module


def test_a_checkpoint_of_the_hub_scores_as_the_native_class(tmp_path: Path) -> None:
    """Names of the hub, packed rows, short, empty and duplicate documents, and one of thousands of tokens."""
    directory = folder(tmp_path)
    module, names = native(directory), load_file(str(directory / "model.safetensors"))
    assert "new.encoder.layer.2.attention.qkv_proj.bias" in names
    assert "new.embeddings.token_type_embeddings.weight" in names
    loaded = rerank_core.load(str(directory), device="cpu", longdoc="firstp", max_length=4096)
    state = load_module(directory, "classifier", device="cpu", dtype=None).state_dict()
    module.load_state_dict(state)
    tokenizer, documents = transformers.AutoTokenizer.from_pretrained(directory), (*DOCUMENTS, DOCUMENTS[0], LONG)
    with torch.inference_mode():
        expected = [
            float(module(**tokenizer([QUERIES[0]], [document], return_tensors="pt")).logits) for document in documents
        ]

    assert all(torch.equal(tensor, names[name]) for name, tensor in hub_names(state).items())
    assert len(names) == len(hub_names(state))
    assert max(expected) - min(expected) > 0.1
    assert loaded.scorer.packed
    assert_close(expected, loaded.rerank(QUERIES[0], documents).scores())


@pytest.mark.parametrize("scaling", [None, {"type": "ntk", "factor": 2.0}, {"type": "ntk", "factor": 1.0}])
def test_the_rotary_embedding_is_that_of_the_hub(scaling: Any, tmp_path: Path) -> None:
    """With and without NTK scaling, by the formula of the authors' file."""
    settings = {**SETTINGS, "rope_scaling": scaling, "rope_theta": 500000}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    config = configuration(tmp_path)
    found = transformers.GteModel(config).rotary_emb.inv_freq
    factor = scaling["factor"] if scaling else 1.0
    expected = [1 / (500000 * factor) ** (2 * place / 16) / factor ** (2 / 16) for place in range(8)]

    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert config.max_position_embeddings == 8192


def test_settings_that_a_file_leaves_out_have_the_authors_defaults(tmp_path: Path) -> None:
    """A saved config has no setting that equals the default of its own class."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "new"}), encoding="utf-8")
    config = configuration(tmp_path)

    assert (config.vocab_size, config.max_position_embeddings, config.pad_token_id) == (30528, 2048, None)
    assert config.rope_parameters["rope_theta"] == 10000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"position_embedding_type": "absolute"}, "position_embedding_type"),
        ({"layer_norm_type": "rms_norm"}, "layer_norm_type"),
        ({"logn_attention_scale": True}, "logn_attention_scale"),
        ({"pack_qkv": False}, "pack_qkv"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling"),
        ({"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.6}}, "rope_scaling"),
        ({"rope_scaling": {"type": "ntk", "factor": 0.0}}, "rope_scaling"),
        ({"rope_scaling": {"type": "ntk", "factor": "8"}}, "factor"),
        ({"auto_map": {"AutoModelForSequenceClassification": "other/code--modeling.Mine"}}, "other/code"),
    ],
)
def test_settings_that_transformers_does_not_have_are_refused(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Each would give other scores, so it is a CheckpointError."""
    (tmp_path / "config.json").write_text(json.dumps({**SETTINGS, **changes}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=said):
        configuration(tmp_path)


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> rerank_core.Reranker:
    """A tiny gte-multilingual-reranker."""
    return rerank_core.load(str(folder(tmp_path_factory.mktemp("new"))), device="cpu", max_length=64)


class TestNew(ScorerConformance):
    """The conformance suite over it."""


def test_helpers_write_plain_folders(tmp_path: Path) -> None:
    """A folder that transformers saved as gte is read without translation."""
    directory = encoder_folder(tmp_path, "gte", "AutoModelForSequenceClassification", num_labels=1, type_vocab_size=1)

    assert rerank_core.load(str(directory), device="cpu").scorer.packed


def test_a_saved_copy_has_the_same_scores(tmp_path: Path) -> None:
    """What transformers writes from it, as the trainers publish it, is read as it was."""
    directory = folder(tmp_path / "hub")
    module = load_module(directory, "classifier", device="cpu", dtype=None)
    copied = tiny_cross_encoder(tmp_path / "saved", "xlm-roberta")
    with quiet():
        module.save_pretrained(str(copied))
    pairs = [(QUERIES[0], document) for document in DOCUMENTS[:4]]

    assert json.loads((copied / "config.json").read_text("utf-8"))["model_type"] == "gte"
    assert_close(
        rerank_core.load(str(directory), device="cpu").score(pairs),
        rerank_core.load(str(copied), device="cpu").score(pairs),
    )
