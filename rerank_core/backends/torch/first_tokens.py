"""A classifier reads one token a row: the last layer computes no more than that needs.

Exact, not an approximation: keys and values are still those of every token; queries, the attention output and the
feed-forward block are computed for the first tokens alone. It saves most of one layer of a BERT-like encoder.
"""

from __future__ import annotations

from typing import Any

import torch

from rerank_core.backends.torch import varlen
from rerank_core.backends.torch.packing import Packing

__all__ = ["gather_first_tokens", "shorten_last_layer"]


class FirstTokenLayer(torch.nn.Module):
    """The last layer of an encoder: ``[1, rows, width]`` for a packed batch, the layer itself for any other."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        packing: Packing | None = kwargs.get("packing")
        if packing is None:
            return self.layer(hidden_states, *args, **kwargs)
        attention = self.layer.attention.self
        first = hidden_states[:, packing.starts]
        heads = attention.num_attention_heads
        query = attention.query(first)[0].unflatten(-1, (heads, -1))
        key, value = (part(hidden_states)[0].unflatten(-1, (heads, -1)) for part in (attention.key, attention.value))
        out = _attend(query, key, value, packing, attention.scaling)
        attended = self.layer.attention.output(out.flatten(1)[None], first)
        return self.layer.output(self.layer.intermediate(attended), attended)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, scale: float
) -> torch.Tensor:
    """``[rows, heads, width]``: one query a row over the keys and values of that row."""
    if packing.unbroken(query):
        alone = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
        longest = (1, max(packing.lengths))
        return varlen.attend(
            query, key, value, query_bounds=alone, key_bounds=packing.bounds, longest=longest, scale=scale
        )
    out = torch.empty_like(query)
    row = 0
    for start, rows, length in packing.groups:
        inside = slice(start, start + rows * length)
        k, v = (part[inside].view(rows, length, *part.shape[1:]).transpose(1, 2) for part in (key, value))
        q = query[row : row + rows, :, None]
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale)
        out[row : row + rows] = attended[:, :, 0]
        row += rows
    return out


def shorten_last_layer(module: Any) -> tuple[torch.nn.ModuleList, torch.nn.Module] | None:
    """Put a `FirstTokenLayer` in place of the last layer of a BERT-like encoder.

    Returns:
        the list of layers and the original last one, to undo it; None where the encoder is of another kind.
    """
    layers = getattr(getattr(getattr(module, "base_model", None), "encoder", None), "layer", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        return None
    last: Any = layers[-1]
    parts = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.self.scaling")
    for path in (*parts, "attention.output", "intermediate", "output"):
        found = last
        for name in path.split("."):
            found = getattr(found, name, None)
        if found is None:
            return None
    layers[-1] = FirstTokenLayer(last)
    return layers, last


def gather_first_tokens(module: Any) -> None:
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
            hidden = hidden[packing.starts]
        output.last_hidden_state = hidden[:, None]
        if getattr(output, "pooler_output", None) is not None:
            output.pooler_output = base.pooler(output.last_hidden_state)
        return output

    base.register_forward_hook(gather, with_kwargs=True)
    base._rerank_core_gathers = True
