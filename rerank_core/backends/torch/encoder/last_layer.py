"""Computes the last layer of a cross-encoder for first tokens only, since the classifier reads no other token.

The result is exact: keys and values are computed for all tokens, attention output and feed-forward block for first
tokens only. It saves most of one layer of an encoder like BERT, ModernBERT or mGTE, in training too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from rerank_core.backends.torch.attention.packing import Packing
from rerank_core.backends.torch.attention.row_pooling import pool_packed
from rerank_core.backends.torch.encoder.first_tokens import FirstTokens, first_tokens_of
from rerank_core.spec.head import Pooling

__all__ = ["FirstTokenLayer", "gather_pooled", "last_layer_for_cls_only"]


class FirstTokenLayer(torch.nn.Module):
    """The last layer of an encoder; gives ``[1, rows, width]``, the first tokens, for a packed batch. Its other
    attributes are those of the layer, which some encoders read."""

    def __init__(self, layer: Any, first_tokens: FirstTokens) -> None:
        super().__init__()
        self.layer = layer
        self.first_tokens = first_tokens

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return _forward(self.layer, self.layer, self.first_tokens, hidden_states, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "layer":
                raise
            return getattr(self.layer, name)


def _forward(
    layer: Any,
    full_forward: Callable[..., Any],
    first_tokens: FirstTokens,
    hidden_states: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """The last layer's forward pass: first tokens only for a packed batch, ``full_forward`` for any other batch."""
    packing: Packing | None = kwargs.get("packing")
    if packing is None:
        output: torch.Tensor = full_forward(hidden_states, *args, **kwargs)
        return output
    return first_tokens(layer, hidden_states, packing, kwargs)


def last_layer_for_cls_only(module: Any, *, live: bool = False) -> Callable[[], None] | None:
    """Let the last layer of an encoder compute first tokens only, for packed batches.

    Args:
        live: the module belongs to the caller: replace the layer's ``forward`` instead of the layer, so that the names
            of its weights stay.

    Returns:
        a function that undoes it; None if the encoder has another structure.
    """
    base = getattr(module, "base_model", None)
    layers = getattr(getattr(base, "encoder", None), "layer", None) or getattr(base, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        return None
    last: Any = layers[-1]
    first_tokens = first_tokens_of(last)
    if first_tokens is None:
        return None
    if not live:
        layers[-1] = FirstTokenLayer(last, first_tokens)
        return lambda: layers.__setitem__(-1, last)
    if "forward" in vars(last):
        return None
    last.forward = functools.partial(_forward, last, functools.partial(type(last).forward, last), first_tokens)
    return lambda: vars(last).pop("forward")


def gather_pooled(module: Any, pooling: Pooling = "cls") -> None:
    """Let a classifier's base model return the pooled rows of a packed batch, ``[rows, 1, width]``.

    The head reads them as ``hidden[:, 0]``, as in a padded batch, or as the mean of one token. Calls without a packing
    do not change.

    Args:
        pooling: the tokens that the head reads: the first one (``cls``), or all of them (``mean``).
    """
    base: Any = getattr(module, "base_model", None)
    if base is None or base is module or getattr(base, "_rerank_core_gathers", False):
        return

    def gather(base: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        packing: Packing | None = kwargs.get("packing")
        if packing is None:
            return output
        hidden = output.last_hidden_state[0]
        if len(hidden) == sum(packing.lengths):  # otherwise the last layer has gathered first tokens already
            hidden = hidden[packing.row_starts] if pooling == "cls" else pool_packed(hidden, packing.lengths, pooling)
        output.last_hidden_state = hidden[:, None]
        if getattr(output, "pooler_output", None) is not None:
            output.pooler_output = base.pooler(output.last_hidden_state)
        return output

    base.register_forward_hook(gather, with_kwargs=True)
    base._rerank_core_gathers = True
