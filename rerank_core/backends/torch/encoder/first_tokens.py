"""The last layer of an encoder for the first token of each row: one function for each architecture of layers.

Keys and values are computed for all tokens; attention output, feed-forward block and, where it has weights of its own,
the query are computed for first tokens only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.packing import Packing
from rerank_core.backends.torch.attention.single_query import attend_first

__all__ = ["FirstTokens", "first_tokens_of"]

FirstTokens: TypeAlias = Callable[[Any, torch.Tensor, Packing, Mapping[str, Any]], torch.Tensor]
"""``[1, rows, width]`` from a layer, its input ``[1, total, width]``, the packing and the layer's keyword arguments."""


def first_tokens_of(layer: Any) -> FirstTokens | None:
    """The function for a layer, by the names of its parts; None for a layer of another structure, or with local
    attention. The caller compares its results with the layer's."""
    for parts, function in _STRUCTURES:
        if all(_part(layer, path) is not None for path in parts):
            local = getattr(getattr(layer, "attn", None), "sliding_window", None)
            return function if local is None else None
    return None


def _part(layer: Any, path: str) -> Any:
    for name in path.split("."):
        layer = getattr(layer, name, None)
    return layer


def _bert(layer: Any, hidden: torch.Tensor, packing: Packing, kwargs: Mapping[str, Any]) -> torch.Tensor:
    attention = layer.attention.self
    first = hidden[:, packing.row_starts]
    heads = attention.num_attention_heads
    query = attention.query(first)[0].unflatten(-1, (heads, -1))
    key, value = (part(hidden)[0].unflatten(-1, (heads, -1)) for part in (attention.key, attention.value))
    dropout = attention.dropout.p if attention.training else 0.0
    out = attend_first(query, key, value, packing, AttentionCall(attention.scaling, dropout=dropout))
    attended = layer.attention.output(out.flatten(1)[None], first)
    output: torch.Tensor = layer.output(layer.intermediate(attended), attended)
    return output


def _modernbert(layer: Any, hidden: torch.Tensor, packing: Packing, kwargs: Mapping[str, Any]) -> torch.Tensor:
    attention, starts = layer.attn, packing.row_starts
    projected = attention.Wqkv(layer.attn_norm(hidden))[0]
    query, key, value = projected.unflatten(-1, (3, -1, attention.head_dim)).unbind(1)
    cos, sin = (part[0] for part in kwargs["position_embeddings"])
    dropout = attention.attention_dropout if attention.training else 0.0
    call = AttentionCall(attention.head_dim**-0.5, dropout=dropout)
    out = attend_first(_rotated(query[starts], cos[starts], sin[starts]), _rotated(key, cos, sin), value, packing, call)
    first = hidden[:, starts] + attention.out_drop(attention.Wo(out.flatten(1)[None]))
    output: torch.Tensor = first + layer.mlp(layer.mlp_norm(first))
    return output


def _gte(layer: Any, hidden: torch.Tensor, packing: Packing, kwargs: Mapping[str, Any]) -> torch.Tensor:
    attention, starts = layer.self_attn, packing.row_starts
    first = hidden[:, starts]
    shape = (-1, attention.head_dim)
    query = attention.q_proj(first)[0].unflatten(-1, shape)
    key, value = (part(hidden)[0].unflatten(-1, shape) for part in (attention.k_proj, attention.v_proj))
    cos, sin = (part[0] for part in kwargs["position_embeddings"])
    call = AttentionCall(attention.scaling, dropout=attention.attention_dropout if attention.training else 0.0)
    out = attend_first(_rotated(query, cos[starts], sin[starts]), _rotated(key, cos, sin), value, packing, call)
    attended = layer.post_attention_dropout(attention.o_proj(out.flatten(1)[None]))
    first = layer.post_attention_layernorm(first + attended)
    output: torch.Tensor = layer.post_mlp_layernorm(first + layer.post_mlp_dropout(layer.mlp(first)))
    return output


_STRUCTURES: tuple[tuple[tuple[str, ...], FirstTokens], ...] = (
    (
        (
            *(f"attention.self.{name}" for name in ("query", "key", "value", "scaling", "dropout.p")),
            "attention.output", "intermediate", "output",
        ),
        _bert,
    ),
    (
        (
            *(f"attn.{name}" for name in ("Wqkv", "Wo", "out_drop", "head_dim", "attention_dropout")),
            "attn_norm", "mlp", "mlp_norm",
        ),
        _modernbert,
    ),
    (
        (
            *(f"self_attn.{name}_proj" for name in "qkvo"),
            *(f"self_attn.{name}" for name in ("head_dim", "scaling", "attention_dropout")),
            "post_attention_layernorm", "post_attention_dropout", "mlp", "post_mlp_layernorm", "post_mlp_dropout",
        ),
        _gte,
    ),
)  # fmt: skip


def _rotated(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding (Su et al., 2021) of ``[tokens, heads, width]`` by ``[tokens, width]``."""
    left, right = states.chunk(2, dim=-1)
    return states * cos[:, None] + torch.cat([-right, left], dim=-1) * sin[:, None]
