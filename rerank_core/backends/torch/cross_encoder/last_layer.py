"""Computes the last layer of a cross-encoder for first tokens only, since the classifier reads no other token.

The result is exact: keys and values are computed for all tokens, and only queries, attention output and feed-forward
block are computed only for first tokens. It saves most of one layer of a BERT-like encoder, in training too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from rerank_core.backends.torch.attention import varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.packing import Packing
from rerank_core.backends.torch.attention.row_pooling import pool_packed
from rerank_core.spec.head import Pooling

__all__ = ["gather_pooled", "last_layer_for_cls_only"]


class FirstTokenLayer(torch.nn.Module):
    """The last layer of an encoder; gives ``[1, rows, width]``, the first tokens, for a packed batch."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return _forward(self.layer, self.layer, hidden_states, *args, **kwargs)


def _forward(
    layer: Any, full_forward: Callable[..., Any], hidden_states: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """The last layer's forward pass: first tokens only for a packed batch, ``full_forward`` for any other batch."""
    packing: Packing | None = kwargs.get("packing")
    if packing is None:
        output: torch.Tensor = full_forward(hidden_states, *args, **kwargs)
        return output
    return _first_tokens(layer, hidden_states, packing)


def _first_tokens(layer: Any, hidden_states: torch.Tensor, packing: Packing) -> torch.Tensor:
    attention = layer.attention.self
    first = hidden_states[:, packing.row_starts]
    heads = attention.num_attention_heads
    query = attention.query(first)[0].unflatten(-1, (heads, -1))
    key, value = (part(hidden_states)[0].unflatten(-1, (heads, -1)) for part in (attention.key, attention.value))
    dropout = attention.dropout.p if attention.training else 0.0
    out = _attend(query, key, value, packing, AttentionCall(attention.scaling, dropout=dropout))
    attended = layer.attention.output(out.flatten(1)[None], first)
    output: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return output


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, call: AttentionCall
) -> torch.Tensor:
    """``[rows, heads, width]``: one query per row over the keys and values of that row."""
    if packing.uses_varlen(query):
        one_query_each = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
        longest = (1, max(packing.lengths))
        return varlen.attend(
            query, key, value, call, cu_seqlens_q=one_query_each, cu_seqlens_k=packing.cu_seqlens, longest=longest
        )
    queries = torch.split(query, [rows for _, rows, _ in packing.groups])
    # Split instead of sliced: the backward pass of a slice allocates the whole tensor, for every slice.
    keys_values = (torch.split(part, [rows * length for _, rows, length in packing.groups]) for part in (key, value))
    out = []
    for (_, rows, length), q, *parts in zip(packing.groups, queries, *keys_values, strict=True):
        k, v = (part.view(rows, length, *part.shape[1:]).transpose(1, 2) for part in parts)
        out.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[:, :, None], k, v, scale=call.scale, dropout_p=call.dropout
            )
        )
    return torch.cat(out)[:, :, 0]


def last_layer_for_cls_only(module: Any, *, live: bool = False) -> Callable[[], None] | None:
    """Let the last layer of a BERT-like encoder compute first tokens only, for packed batches.

    Args:
        live: the module belongs to the caller: replace the layer's ``forward`` instead of the layer, so that the names
            of its weights stay.

    Returns:
        a function that undoes it; None if the encoder has another structure.
    """
    layers = getattr(getattr(getattr(module, "base_model", None), "encoder", None), "layer", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        return None
    last: Any = layers[-1]
    of_attention = ("query", "key", "value", "scaling", "dropout.p")
    for path in (*(f"attention.self.{name}" for name in of_attention), "attention.output", "intermediate", "output"):
        part = last
        for name in path.split("."):
            part = getattr(part, name, None)
        if part is None:
            return None
    if not live:
        layers[-1] = FirstTokenLayer(last)
        return lambda: layers.__setitem__(-1, last)
    if "forward" in vars(last):
        return None
    last.forward = functools.partial(_forward, last, functools.partial(type(last).forward, last))
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
