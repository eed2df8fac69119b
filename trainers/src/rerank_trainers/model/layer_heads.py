"""Loads a checkpoint as a layerwise model: with its own heads, or with heads made from its output layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from rerank_core import CheckpointError, Head, InputError
from rerank_core.backends import build
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.backends.torch.decoder.heads import head_layers, label_head, layer_heads_of
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner
from rerank_core.backends.torch.decoder.layered_model import LayeredModel
from rerank_core.backends.torch.load_weights import configuration
from rerank_core.backends.torch.safetensors_reader import names_of
from rerank_core.options import Options
from rerank_core.spec.untrusted_files import read_json
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.load_weights import configured, decoder
from rerank_trainers.model.source import Source

__all__ = ["load_layerwise"]

_FIRST = 8  # of bge-reranker-v2-minicpm-layerwise
# Scale of the probe vectors in `_output_row`: a power of two, so that dividing by it is exact.
_NEAR = 2.0**-10


def load_layerwise(
    source: Source, config: ModelConfig, tokenizer: TextTokenizer
) -> tuple[LayeredModel, Head, list[str]]:
    """The model, its head as it will be saved, and the names of heads that start at random.

    A new head is the row of the output layer for the word of ``answers`` (for two words the difference of their rows);
    by default the words of the followed model, else ``Yes``. Each layer then starts with the score of that word.

    Raises:
        CheckpointError: files that cannot be loaded, or answers that are not single tokens.
        InputError: no layer would have a score, or the layers of this model cannot be trained.
    """
    directory = source.directory
    own = _own_head(source)
    if own is None:
        hf_config, head = (
            configuration(directory),
            Head.layers(_FIRST if config.first_layer is None else config.first_layer),
        )
    else:
        hf_config, head = own
        if config.first_layer not in (None, head.first):
            raise InputError(
                f"model.first_layer is {config.first_layer!r}, and {directory} has scores from layer {head.first} on; "
                "leave it out"
            )
    layers = head_layers(head, hf_config.num_hidden_layers)
    if not layers:
        raise InputError(
            f"model.first_layer is {head.first}, and {directory} has {hf_config.num_hidden_layers} layers; set it to "
            "one of them"
        )
    base = decoder(directory, configured(hf_config, config), config)
    module = LayeredModel(base, layers)
    heads: Any = module.lm_head
    saved = Head.layers(layers.start, layers.step)
    if own is not None:
        own_heads = layer_heads_of(directory, base, head, layers)
        first = [own_heads.heads[layer] for layer in layers]
    else:
        row = _output_row(source, config, base, tokenizer)
        if row is None:
            for one in heads:
                torch.nn.init.normal_(one.linear_head.weight, std=getattr(hf_config, "initializer_range", 0.02))
            return module, saved, [name for name, _ in module.named_parameters() if name.startswith("lm_head.")]
        first = [row] * len(layers)
    with torch.no_grad():
        for one, weight in zip(heads, first, strict=True):
            one.linear_head.weight.copy_(weight)
    return module, saved, []


def _own_head(source: Source) -> tuple[Any, Head] | None:
    """Transformers configuration and head of a layerwise checkpoint; None if the files hold no heads."""
    like, directory = source.follows, source.directory
    if like is None or like.head is None or like.head.kind != "layers":
        return None
    before, _, after = (like.head.weights or "").partition("{i}")
    # One head shows that the checkpoint has heads; missing ones are reported when they are read.
    if not any(name.startswith(before) and name.endswith(after) for name in names_of(directory)):
        return None
    if like.scorer is None:
        return configuration(directory), like.head
    # Only the plugin's code can translate such a config.json for transformers; the scorer it builds is dropped.
    depth = read_json(directory / "config.json").get("num_hidden_layers")
    given = {"checkpoint": str(directory), "device": "cpu", "dtype": "bfloat16", "layer": depth}
    scorer = build(replace(like, sha256={}), Options.of(like, given))
    if not isinstance(scorer, DecoderScorer) or type(scorer.runner) is not LayerRunner:
        raise InputError(f"{like.name!r} changes the batch between its layers, which cannot be trained here")
    translated: Any = scorer.module.config
    head = scorer.spec.head
    return translated, like.head if head is None else head


def _output_row(source: Source, config: ModelConfig, base: Any, tokenizer: TextTokenizer) -> torch.Tensor | None:
    """``[1, width]``: the output row of the score; None without an output layer or a token ``Yes``."""
    like = source.follows.head if source.follows is not None else None
    followed = like is not None and like.kind == "last_token"
    label = Head.last_token(*config.answers) if config.answers else like if followed else Head.last_token("Yes")
    assert label is not None
    try:
        output = label_head(source.directory, base, label, tokenizer, source.directory.name)
    except CheckpointError:
        if config.answers or followed:
            raise
        return None
    # For tiny inputs a soft cap on logits is the identity, so the score is linear and its gradient is the row.
    points = torch.eye(base.config.hidden_size, device=base.device) * _NEAR
    at, origin = output.scores(points, 0), output.scores(points[:1] * 0, 0)
    return ((at - origin) / _NEAR)[None]
