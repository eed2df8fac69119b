"""Folders of small random encoders of any architecture, and of the modules that sentence-transformers keeps beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from rerank_core.backends.torch.load_weights import quiet
from rerank_core.testing import tiny_encoder
from rerank_core.testing.checkpoints import tiny_tokenizer

WIDTH = 32
SMALL: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "pad_token_id": 0,
}
LOCAL = {"local_attention": 16, "global_attn_every_n_layers": 2, "cls_token_id": 2, "sep_token_id": 3}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": SMALL,
    "modernbert": {**SMALL, **LOCAL, "bos_token_id": 2, "eos_token_id": 3},
    "gte": SMALL,
    "eurobert": {**SMALL, "num_key_value_heads": 2, "bos_token_id": 2, "eos_token_id": 3, "mask_token_id": 4},
    "deberta-v2": {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
}
# Where sentence-transformers keeps its modules.
_HOMES = {
    "Dense": "base.modules.dense",
    "Normalize": "base.modules.normalize",
    "LayerNorm": "sentence_transformer.modules.layer_norm",
    "Dropout": "sentence_transformer.modules.dropout",
}


def encoder_folder(
    directory: Path, family: str = "modernbert", kind: str = "AutoModel", *, std: float = 0.3, **more: Any
) -> Path:
    """An encoder (``AutoModel``) or classifier (``AutoModelForSequenceClassification``) with BERT's tiny tokenizer."""
    tiny_encoder(directory, "bert")  # the tokenizer's files
    size = max(tiny_tokenizer("bert").get_vocab().values()) + 1
    config = transformers.AutoConfig.for_model(family, **{"vocab_size": size, **FAMILIES[family], **more})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        module = getattr(transformers, kind).from_config(config)
        for weights in module.parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=std)
    with quiet():
        module.save_pretrained(str(directory))
    if family != "bert":  # the only one of them with token types
        settings = json.loads((directory / "tokenizer_config.json").read_text("utf-8"))
        settings["model_input_names"] = ["input_ids", "attention_mask"]
        (directory / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return directory


def add_modules(directory: Path, pooling: str, modules: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Write ``modules.json``, the pooling and further modules into the folder of an encoder; return their folders.

    Args:
        pooling: sentence-transformers' name.
        modules: the kind of each module and its settings; its random weights follow from them.
    """
    listed = [
        ("", "base.modules.transformer.Transformer"),
        ("1_Pooling", "sentence_transformer.modules.pooling.Pooling"),
    ]
    write(directory / "1_Pooling", {"embedding_dimension": WIDTH, "pooling_mode": pooling, "include_prompt": True})
    generator = torch.Generator().manual_seed(7)
    for number, (kind, settings) in enumerate(modules, start=2):
        folder = directory / f"{number}_{kind}"
        listed.append((folder.name, f"{_HOMES[kind]}.{kind}"))
        if kind == "Normalize":
            continue
        write(folder, settings)
        if kind == "Dense":
            ends = settings["out_features"], settings["in_features"]
            tensors = {"linear.weight": torch.randn(ends, generator=generator) * 0.3}
            if settings["bias"]:
                tensors["linear.bias"] = torch.randn(ends[0], generator=generator)
            if settings.get("use_residual") and ends[0] != ends[1]:
                tensors["residual.weight"] = torch.randn(ends, generator=generator)
            save_file(tensors, folder / "model.safetensors")
        elif kind == "LayerNorm":
            sides = {name: torch.randn(settings["dimension"], generator=generator) for name in ("weight", "bias")}
            save_file({f"norm.{name}": tensor for name, tensor in sides.items()}, folder / "model.safetensors")
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.{kind}"}
        for number, (path, kind) in enumerate(listed)
    ]
    (directory / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    said = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity", "prompts": {}}
    (directory / "config_sentence_transformers.json").write_text(json.dumps(said), encoding="utf-8")
    return [path for path, _ in listed[2:]]


def dense(width_in: int, width_out: int, activation: str = "Identity", **more: Any) -> tuple[str, dict[str, Any]]:
    """A Dense module; the last one, of width 1, writes the scores."""
    home = "linear" if activation == "Identity" else "activation"
    settings = {
        "in_features": width_in,
        "out_features": width_out,
        "bias": True,
        "activation_function": f"torch.nn.modules.{home}.{activation}",
        "module_input_name": "sentence_embedding",
        "module_output_name": "scores" if width_out == 1 else "sentence_embedding",
    }
    return "Dense", settings | more


def write(folder: Path, settings: dict[str, Any]) -> None:
    """A module's folder with its config."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
