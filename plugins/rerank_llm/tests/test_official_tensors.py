"""Tensors of the official checkpoints, written down by hand from their published configurations and the names that
Qwen2 and Qwen3 checkpoints have had since their first release; not verified against the hub's files, which could not be
fetched where this was written. A loader that asked for other names would pass with random checkpoints, and not here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

import rerank_core
from rerank_core.testing.decoders import write_tokenizer


def config(width: int, inner: int, layers: int, heads: int, shared: int, **more: Any) -> dict[str, Any]:
    own = {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers}
    return {**own, "num_attention_heads": heads, "num_key_value_heads": shared, **more}


QWEN3 = {"model_type": "qwen3", "head_dim": 128, "vocab_size": 151669}
QWEN2 = {"model_type": "qwen2", "vocab_size": 151936, "tie_word_embeddings": True}
OFFICIAL = {
    "qwen3-reranker-0.6b": config(1024, 3072, 28, 16, 8, tie_word_embeddings=True, **QWEN3),
    "qwen3-reranker-4b": config(2560, 9728, 36, 32, 8, tie_word_embeddings=True, **QWEN3),
    "qwen3-reranker-8b": config(4096, 12288, 36, 32, 8, tie_word_embeddings=False, **QWEN3),
    "zerank-1-small": config(2048, 6144, 28, 16, 8, tie_word_embeddings=True, **QWEN3),
    "zerank-2": config(2560, 9728, 36, 32, 8, tie_word_embeddings=True, **QWEN3),
    "mxbai-rerank-base-v2": config(896, 4864, 24, 14, 2, **QWEN2),
    "mxbai-rerank-large-v2": config(1536, 8960, 28, 12, 2, **QWEN2),
}


def tensors(given: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes for a configuration."""
    width, inner, heads = given["hidden_size"], given["intermediate_size"], given["num_attention_heads"]
    size = given.get("head_dim") or width // heads
    rows = {"q": heads * size, "k": given["num_key_value_heads"] * size, "v": given["num_key_value_heads"] * size}
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (given["vocab_size"], width)}
    for layer in range(given["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        found |= {f"{at}self_attn.{name}_proj.weight": (count, width) for name, count in rows.items()}
        if given["model_type"] == "qwen2":
            found |= {f"{at}self_attn.{name}_proj.bias": (count,) for name, count in rows.items()}
        else:
            found |= {f"{at}self_attn.{name}_norm.weight": (size,) for name in ("q", "k")}
        found |= {
            f"{at}self_attn.o_proj.weight": (width, heads * size),
            f"{at}mlp.gate_proj.weight": (inner, width),
            f"{at}mlp.up_proj.weight": (inner, width),
            f"{at}mlp.down_proj.weight": (width, inner),
            f"{at}input_layernorm.weight": (width,),
            f"{at}post_attention_layernorm.weight": (width,),
        }
    found["model.norm.weight"] = (width,)
    if not given["tie_word_embeddings"]:
        found["lm_head.weight"] = (given["vocab_size"], width)
    return found


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_the_module_has_the_official_shapes(name: str) -> None:
    """At full size, on no memory at all."""
    given = OFFICIAL[name]
    with torch.device("meta"):
        module = AutoModel.from_config(AutoConfig.for_model(**given))
    expected = {key.removeprefix("model."): shape for key, shape in tensors(given).items() if key != "lm_head.weight"}
    assert {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()} == expected


@pytest.mark.parametrize("name", list(OFFICIAL))
def test_a_checkpoint_under_these_names_loads(name: str, tmp_path: Path) -> None:
    """Made small; tied and untied output layers."""
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    given = {**OFFICIAL[name], **small, "num_hidden_layers": 2, "vocab_size": write_tokenizer(tmp_path, "bytes")}
    if "head_dim" in given:
        given["head_dim"] = 8
    torch.manual_seed(0)
    made = {key: torch.randn(shape) * 0.2 + (1.0 if "norm" in key else 0.0) for key, shape in tensors(given).items()}
    save_file(made, tmp_path / "model.safetensors", {"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(given), encoding="utf-8")
    scores = rerank_core.load(name, checkpoint=tmp_path, device="cpu").score([("what?", "a panda"), ("what?", "b")])
    assert scores[0] != scores[1]
