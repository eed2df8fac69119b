"""`Model`: the module in training, with its tokenizer, spec and the scorer of the serving pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rerank_core import InputError, ModelSpec
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.trainable import Trainable
from rerank_core.scorer import Batch
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.model.lora import plain_module, with_lora
from rerank_trainers.model.source import source_of
from rerank_trainers.model.training_spec import base_name, spec_to_train

__all__ = ["Model", "joined", "open_model"]


@dataclass(frozen=True, eq=False)
class Model:
    """A module in training.

    Attributes:
        kind: what is particular to models of its kind.
        module: the module that the trainer calls, saves and moves: a transformers model, or peft's wrapper of one.
        scorer: scores with the live weights through the serving pipeline, and lays out training rows.
        base: ``plugin:model`` whose options and code the published folder needs; None if it needs none.
        fresh: names of weights that started at random.
        origin: the checkpoint as named in the configuration.
        widths: Matryoshka widths, at which it is evaluated too.
    """

    kind: ModelKind
    module: Any
    tokenizer: Any
    spec: ModelSpec
    scorer: TorchScorer
    base: str | None
    fresh: tuple[str, ...]
    origin: str
    widths: tuple[int, ...] = ()

    @property
    def plain(self) -> Any:
        """See `plain_module`."""
        return plain_module(self.module)

    @property
    def averages(self) -> bool:
        """Whether MaxSim is the mean over the query's tokens."""
        return self.spec.head is not None and self.spec.head.reduce == "mean"

    def represent(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Named tensors of a batch with their gradient: scores, or vectors; see `Trainable.parts_from`.

        Args:
            model: the module, perhaps wrapped by the trainer.
        """
        scorer: Any = self.scorer
        parts: dict[str, torch.Tensor] = scorer.parts_from(
            model(**scorer.forward_inputs(batch, packed=scorer.packed)), batch
        )
        return parts


def joined(pieces: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The named tensors of several batches, one after the other."""
    return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


def open_model(config: ModelConfig, kind: ModelKind, *, name: str, frozen_bias: bool = False) -> Model:
    """Load the model that a configuration names, ready to be trained in float32.

    Args:
        name: name of the published model if the configuration has none.
        frozen_bias: freeze the bias of the score head, for objectives that do not change with a constant: its gradient
            would be rounding noise, which Adam turns into steps of the full learning rate.

    Raises:
        CheckpointError: files that cannot be loaded.
        InputError: no template for an LLM, or settings that contradict each other.
        MissingDependencyError: ``model.lora`` needs peft.
    """
    source = source_of(config, kind)
    loaded = kind.load(source, config, spec_to_train(source, config, kind, name))
    module, tokenizer, spec, fresh = loaded.module, loaded.tokenizer, loaded.spec, loaded.fresh
    if config.layout == "packed":
        _use_packed_attention(module)
    elif module.config._attn_implementation == packing.NAME:  # as its plugin loaded it
        packing.set_attention(module, "sdpa")
    module = with_lora(module, config, kind.trained_in_full(module, fresh), task=kind.lora_task)
    if frozen_bias:
        _freeze_bias(module)
    plain = plain_module(module)
    if config.gradient_checkpointing:
        _checkpoint_gradients(plain)
    scorer = scorer_of(plain, tokenizer, spec)
    if not isinstance(scorer, Trainable):
        raise InputError(f"a {type(scorer).__name__} cannot be trained here")
    base = base_name(source, spec)
    widths = kind.widths(config, scorer)
    return Model(kind, module, tokenizer, spec, scorer, base, tuple(fresh), config.checkpoint, widths)


def _use_packed_attention(module: Any) -> None:
    try:
        packing.set_attention(module, packing.NAME)
    except (ValueError, NotImplementedError, AttributeError):
        return  # the model computes its own attention: rows are padded, as in serving


def _checkpoint_gradients(module: Any) -> None:
    module.config.use_cache = False
    # transformers 5 renamed the method.
    enable = getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable
    # The reentrant kind gives no gradient if the input of a layer needs none, as in a frozen base model.
    enable({"use_reentrant": False})


def _freeze_bias(module: Any) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.Linear) and part.out_features == 1 and part.bias is not None:
            part.bias.requires_grad_(False)
