"""A classifier reads one token a row: the last layer computes no more than that needs.

Exact, not an approximation: keys and values are still those of every token; queries, the attention output and the
feed-forward block are computed for the first tokens alone. It saves most of one layer of a BERT-like encoder, in
training too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from rerank_core.backends.torch.attention import varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.packing import Packing

__all__ = ["gather_cls", "last_layer_for_cls_only"]


class FirstTokenLayer(torch.nn.Module):
    """The last layer of an encoder: ``[1, rows, width]`` for a packed batch, the layer itself for any other."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        return _forward(self.layer, self.layer, hidden_states, *args, **kwargs)


def _forward(
    layer: Any, whole: Callable[..., Any], hidden_states: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    """A layer's forward pass: for a packed batch its first tokens alone, for any other batch the ``whole`` layer."""
    packing: Packing | None = kwargs.get("packing")
    if packing is None:
        output: torch.Tensor = whole(hidden_states, *args, **kwargs)
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
    found: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return found


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, call: AttentionCall
) -> torch.Tensor:
    """``[rows, heads, width]``: one query a row over the keys and values of that row."""
    if packing.uses_varlen(query):
        alone = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
        longest = (1, max(packing.lengths))
        return varlen.attend(
            query, key, value, call, cu_seqlens_q=alone, cu_seqlens_k=packing.cu_seqlens, longest=longest
        )
    asked = torch.split(query, [rows for _, rows, _ in packing.groups])
    # Split, not sliced: a gradient through slices of a whole costs the whole for every slice.
    read = (torch.split(part, [rows * length for _, rows, length in packing.groups]) for part in (key, value))
    out = []
    for (_, rows, length), q, *behind in zip(packing.groups, asked, *read, strict=True):
        k, v = (part.view(rows, length, *part.shape[1:]).transpose(1, 2) for part in behind)
        out.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[:, :, None], k, v, scale=call.scale, dropout_p=call.dropout
            )
        )
    return torch.cat(out)[:, :, 0]


def last_layer_for_cls_only(module: Any, *, live: bool = False) -> Callable[[], None] | None:
    """Let the last layer of a BERT-like encoder compute first tokens alone, of packed batches.

    Args:
        live: the module is somebody else's: the layer stays the object that it is, under the names that its weights
            are saved by, and only its ``forward`` is replaced.

    Returns:
        how to undo it; None where the encoder is of another kind.
    """
    layers = getattr(getattr(getattr(module, "base_model", None), "encoder", None), "layer", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        return None
    last: Any = layers[-1]
    of_attention = ("query", "key", "value", "scaling", "dropout.p")
    for path in (*(f"attention.self.{name}" for name in of_attention), "attention.output", "intermediate", "output"):
        found = last
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is None:
            return None
    if not live:
        layers[-1] = FirstTokenLayer(last)
        return lambda: layers.__setitem__(-1, last)
    if "forward" in vars(last):
        return None
    last.forward = functools.partial(_forward, last, functools.partial(type(last).forward, last))
    return lambda: vars(last).pop("forward")


def gather_cls(module: Any) -> None:
    """Make a classifier's base model give, for a packed batch, ``[rows, 1, width]``: the first token of each row.

    The head then reads it as it reads ``hidden[:, 0]`` of a padded batch. Calls without a packing are untouched.
    """
    base: Any = getattr(module, "base_model", None)
    if base is None or base is module or getattr(base, "_rerank_core_gathers", False):
        return

    def gather(base: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        packing: Packing | None = kwargs.get("packing")
        if packing is None:
            return output
        hidden = output.last_hidden_state[0]
        if len(hidden) == sum(packing.lengths):  # else the last layer has gathered them already
            hidden = hidden[packing.row_starts]
        output.last_hidden_state = hidden[:, None]
        if getattr(output, "pooler_output", None) is not None:
            output.pooler_output = base.pooler(output.last_hidden_state)
        return output

    base.register_forward_hook(gather, with_kwargs=True)
    base._rerank_core_gathers = True
