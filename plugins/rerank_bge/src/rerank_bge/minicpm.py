"""bge-reranker-v2-minicpm-layerwise without its remote code.

MiniCPM is a Llama with two multipliers, ``x = scale_emb * E[ids]`` and ``x += scale_depth / sqrt(layers) * f(norm(x))``
(Hu et al., *MiniCPM*, 2024). transformers' Granite is the same network with the multipliers in its configuration, and
its tensors have the same names, so the checkpoint is loaded as Granite.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import GraniteConfig

from rerank_core import CheckpointError, Head, ModelSpec, Options
from rerank_core.backends.torch import DecoderScorer, decoder_of, locate, model_folder
from rerank_core.spec import read_json, reading


def scorer(spec: ModelSpec, options: Options) -> DecoderScorer:
    """The factory of ``bge-llm-layerwise``."""
    directory = locate(spec, options)
    settings = read_json(model_folder(directory, spec, options) / "config.json")
    with reading(settings.file, inputs=False):
        head, config = Head.layers(settings.of("start_layer", int, 8)), granite(settings.file.parent)
    return decoder_of(replace(spec, head=head), options, directory, config=config)


def granite(directory: Path) -> GraniteConfig:
    """The checkpoint's config.json as a configuration of Granite.

    Raises:
        CheckpointError: a MiniCPM that is not the layerwise reranker.
    """
    config = read_json(directory / "config.json")
    for name, usual in (("head_type", "simple"), ("head_multi", True), ("rope_scaling", None)):
        if config.get(name, usual) != usual:
            raise CheckpointError(f"{directory}: {name} is {config[name]!r}; the layerwise reranker has {usual!r}")
    try:
        width, heads, depth = (config[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
        copied: dict[str, Any] = {
            name: config[name]
            for name in (
                "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                "rms_norm_eps", "max_position_embeddings",
            )
        }  # fmt: skip
    except KeyError as error:
        raise CheckpointError(f"{directory}: config.json lacks {error.args[0]!r}") from error
    return GraniteConfig(
        **copied,
        num_key_value_heads=config.get("num_key_value_heads") or heads,
        hidden_act=config.get("hidden_act", "silu"),
        rope_parameters={"rope_type": "default", "rope_theta": config.get("rope_theta", 10000.0)},
        attention_bias=config.get("attention_bias", False),
        embedding_multiplier=config.of("scale_emb", float, 1.0),
        residual_multiplier=config.of("scale_depth", float, 1.0) / math.sqrt(depth),
        attention_multiplier=(width // heads) ** -0.5,
        pad_token_id=config.get("pad_token_id"),
        bos_token_id=config.get("bos_token_id", 1),
        eos_token_id=config.get("eos_token_id", 2),
        tie_word_embeddings=False,
    )
