"""Tensors of the official causal checkpoints: names and shapes, from their configurations and module trees.

Not verified against the hub's files, which could not be fetched where this was written; `make parity` compares the
names of the layerwise and the lightweight model with what FlagEmbedding's own classes save. Gemma's names are those of
transformers' GemmaForCausalLM, whose output layer is the embedding table.
"""

from __future__ import annotations

from typing import Any

import torch
from safetensors.torch import save_file

__all__ = ["GEMMA", "LIGHTWEIGHT", "MINICPM", "tensors", "write"]

GEMMA: dict[str, Any] = {
    "architectures": ["GemmaForCausalLM"], "model_type": "gemma", "vocab_size": 256000, "hidden_size": 2048,
    "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
    "head_dim": 256, "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "hidden_act": "gelu", "pad_token_id": 0,
    "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip
MINICPM: dict[str, Any] = {
    "architectures": ["LayerWiseMiniCPMForCausalLM"], "model_type": "minicpm", "vocab_size": 122753,
    "hidden_size": 2304, "intermediate_size": 5760, "num_hidden_layers": 40, "num_attention_heads": 36,
    "num_key_value_heads": 36, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "hidden_act": "silu",
    "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "start_layer": 8, "head_multi": True,
    "head_type": "simple", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
LIGHTWEIGHT: dict[str, Any] = {
    "architectures": ["CostWiseGemmaForCausalLM"], "model_type": "cost_wise_gemma", "vocab_size": 256000,
    "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 256, "query_pre_attn_scalar": 256, "sliding_window": 4096,
    "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6, "hidden_activation": "gelu_pytorch_tanh", "start_layer": 8, "layer_sep": 1,
    "layer_wise": True, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1,
}  # fmt: skip

_NORMS = {
    "gemma": ("input", "post_attention"),
    "minicpm": ("input", "post_attention"),
    "cost_wise_gemma": ("input", "post_attention", "pre_feedforward", "post_feedforward"),
}


def tensors(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes for a configuration; the official ones above, or the same made small."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    size = config.get("head_dim") or width // heads
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], width)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        found |= {
            f"{at}self_attn.q_proj.weight": (heads * size, width),
            f"{at}self_attn.k_proj.weight": (shared * size, width),
            f"{at}self_attn.v_proj.weight": (shared * size, width),
            f"{at}self_attn.o_proj.weight": (width, heads * size),
            f"{at}mlp.gate_proj.weight": (inner, width),
            f"{at}mlp.up_proj.weight": (inner, width),
            f"{at}mlp.down_proj.weight": (width, inner),
        }
        found |= {f"{at}{norm}_layernorm.weight": (width,) for norm in _NORMS[config["model_type"]]}
    found["model.norm.weight"] = (width,)
    if "start_layer" in config:
        count = config["num_hidden_layers"] + 1 - config["start_layer"]
        found |= {f"lm_head.{number}.linear_head.weight": (1, width) for number in range(count)}
    return found


def write(directory: Any, config: dict[str, Any], *, without: str = "", seed: int = 0) -> None:
    """Random weights under these names, and config.json."""
    import json

    generator = torch.Generator().manual_seed(seed)
    made = {
        name: torch.randn(shape, generator=generator) * 0.3 + (1.0 if name.endswith("norm.weight") else 0.0)
        for name, shape in tensors(config).items()
        if not without or without not in name
    }
    save_file(made, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")
