"""`Model`: what is trained, with the scorer that serving would make of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from rerank_core import InputError, ModelSpec
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.trainable import Trainable
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import DEFAULT
from rerank_trainers.model.layer_heads import load_layerwise
from rerank_trainers.model.load_weights import language_model, load_classifier
from rerank_trainers.model.lora import with_lora
from rerank_trainers.model.source import base_name, source_of, spec_to_train, tokenizer_of

__all__ = ["Model", "open_model"]


@dataclass(frozen=True, eq=False)
class Model:
    """A module in training.

    Attributes:
        module: what the trainer calls, saves and moves: a transformers model, or peft's around one.
        scorer: of the live weights, through the serving pipeline; lays training rows out too.
        base: ``plugin:model`` whose options and code the published folder keeps using; None where it needs none.
        fresh: names of weights that no checkpoint had.
        origin: the checkpoint as the configuration names it.
    """

    module: Any
    tokenizer: Any
    spec: ModelSpec
    scorer: TorchScorer
    base: str | None
    fresh: tuple[str, ...]
    origin: str

    @property
    def plain(self) -> Any:
        """The transformers model, adapters and all, without peft's wrapper."""
        return self.module.get_base_model() if hasattr(self.module, "peft_config") else self.module

    def scores(self, model: Any, batch: Any) -> torch.Tensor:
        """``[rows]`` with their gradient, of a layerwise model ``[rows, layers]``; ``model`` is the module as a trainer
        wrapped it."""
        scorer: Any = self.scorer
        found: torch.Tensor = scorer.scores_from(model(**scorer.forward_inputs(batch, packed=scorer.packed)))
        return found


def open_model(config: ModelConfig, *, name: str, frozen_bias: bool = False) -> Model:
    """The model that a configuration names, ready to be trained in float32.

    Args:
        name: of the published model where the configuration has none.
        frozen_bias: the objective is blind to a constant, so the bias of the score head is left alone: its gradient
            is rounding noise, which Adam turns into steps of the full learning rate.

    Raises:
        CheckpointError: files that cannot be loaded.
        InputError: no template for an LLM, or settings that do not fit together.
        MissingDependencyError: peft, where ``lora`` asks for it.
    """
    source = source_of(config)
    config = replace(config, kind=config.kind or DEFAULT)
    tokenizer = tokenizer_of(source.directory)
    spec = spec_to_train(source, config, name)
    module: Any
    fresh: list[str] = []
    if config.kind == "cross-encoder":
        module, fresh = load_classifier(source.directory, config, tokenizer)
    elif config.kind == "llm":
        module = language_model(source.directory, config)
    else:
        if config.layout != "packed":
            raise InputError(f"model.layout is {config.layout!r}; the layers of a layerwise model run on packed rows")
        module, head, fresh = load_layerwise(source, config, TextTokenizer.from_transformers(tokenizer))
        spec = replace(spec, head=head)
    if config.layout == "packed":
        _use_packed_attention(module)
    module = with_lora(module, config, fresh)
    if frozen_bias:
        _freeze_bias(module)
    plain = module.get_base_model() if hasattr(module, "peft_config") else module
    if config.gradient_checkpointing:
        _keep_fewer_activations(plain)
    scorer = scorer_of(plain, tokenizer, spec)
    if not isinstance(scorer, Trainable):
        raise InputError(f"a {type(scorer).__name__} cannot be trained here")
    return Model(module, tokenizer, spec, scorer, base_name(source, spec), tuple(fresh), config.checkpoint)


def _use_packed_attention(module: Any) -> None:
    try:
        module.set_attn_implementation(packing.NAME)
    except (ValueError, NotImplementedError, AttributeError):
        return  # computes its own attention: rows are padded, as they are when it is served


def _keep_fewer_activations(module: Any) -> None:
    module.config.use_cache = False
    # transformers 5 renamed it on the way.
    enable = getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable
    # Not reentrant: that kind gives no gradient where a layer's input has none, as over a frozen base model.
    enable({"use_reentrant": False})


def _freeze_bias(module: Any) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Linear) and part.out_features == 1 and part.bias is not None:
            part.bias.requires_grad_(False)
