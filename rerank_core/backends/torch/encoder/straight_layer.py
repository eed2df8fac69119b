"""`StraightLayer`: a layer of a BERT-like encoder as one function over prepared weights.

transformers' layer calls some twenty modules, which costs more than the products where a batch is one document. Here
query, key and value are one product, and residuals and GELU are computed in the products that they follow. The layout
is that of Devlin et al., *BERT*, 2019: attention and feed-forward block, each followed by its residual and a layer
norm.
"""

from __future__ import annotations

from typing import Any

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.packing import Packing
from rerank_core.backends.torch.attention.single_query import attend_first
from rerank_core.backends.torch.encoder.products import MakeProduct, fused
from rerank_core.backends.torch.linear.onednn import gelu_after

__all__ = ["StraightLayer", "is_bert_layer", "release"]

_PARTS = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip


def is_bert_layer(layer: Any) -> bool:
    """Whether a layer has the parts of BERT's, all linear layers unchanged. The caller compares results."""
    try:
        linears = [layer.get_submodule(name) for name in _PARTS]
        norms = [layer.get_submodule(f"{name}.LayerNorm") for name in ("attention.output", "output")]
        heads = layer.attention.self.num_attention_heads
    except AttributeError:
        return False
    known = all(type(linear) is torch.nn.Linear for linear in linears)
    return (
        known
        and all(type(norm) is torch.nn.LayerNorm for norm in norms)
        and linears[0].out_features % heads == 0
        and gelu_after(layer.intermediate, "dense")
    )


class StraightLayer(torch.nn.Module):
    """The results of a layer in eval mode, for packed and for padded batches.

    Args:
        layer: of which `is_bert_layer` is true.
        make: how products are computed.
        first_only: give ``[1, rows, width]``, the first token of each row, for a packed batch.
    """

    def __init__(self, layer: Any, make: MakeProduct, *, first_only: bool = False) -> None:
        super().__init__()
        own = layer.attention.self
        self.first_only = first_only
        self.heads = int(own.num_attention_heads)
        self.call = AttentionCall(scale=(own.query.out_features // self.heads) ** -0.5)
        if first_only:  # the query is computed for first tokens only
            self.query = make(own.query)
            self.key_value = make(fused([own.key, own.value]))
        else:
            self.query_key_value = make(fused([own.query, own.key, own.value]))
        self.attended = make(layer.attention.output.dense)
        self.attention_norm = layer.attention.output.LayerNorm
        self.inner = make(layer.intermediate.dense)
        self.outer = make(layer.output.dense)
        self.norm = layer.output.LayerNorm

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        *args: Any,
        packing: Packing | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """``[batch, length, width]`` in and out."""
        batch, length, width = hidden_states.shape
        x = hidden_states.reshape(-1, width)
        if self.first_only and packing is not None:
            first = x[packing.row_starts]
            query = self.query(first).view(len(first), self.heads, -1)
            key, value = self._split(self.key_value(x), 2)
            attended = attend_first(query, key, value, packing, self.call)
            return self._after(attended.reshape(len(first), -1), first)[None]
        if self.first_only:
            query, (key, value) = self.query(x).view(len(x), self.heads, -1), self._split(self.key_value(x), 2)
        else:
            query, key, value = self._split(self.query_key_value(x), 3)
        if packing is not None:
            query, key, value = (part.transpose(0, 1)[None] for part in (query, key, value))
            attended = packing.attend(query, key, value, self.call)
        else:
            query, key, value = (
                part.view(batch, length, self.heads, -1).transpose(1, 2) for part in (query, key, value)
            )
            attended = torch.nn.functional.scaled_dot_product_attention(
                query, key, value, attn_mask=attention_mask, scale=self.call.scale
            ).transpose(1, 2)
        return self._after(attended.reshape(len(x), -1), x).view(batch, length, width)

    def _split(self, product: torch.Tensor, parts: int) -> tuple[torch.Tensor, ...]:
        """``[tokens, heads, width of a head]`` of each part of a fused product."""
        return product.view(len(product), parts, self.heads, -1).unbind(1)

    def _after(self, attended: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """What follows attention, for ``[tokens, width]``."""
        x = self.attention_norm(self.attended.plus(attended, x))
        out: torch.Tensor = self.norm(self.outer.plus(self.inner.gelu(x), x))
        return out

    def restore(self, layer: Any) -> None:
        """Give the layer that this one was made from its weights back, bit-equal; see `release`."""
        own = layer.attention.self
        if self.first_only:
            query, (key, value) = self.query.weights(), self.key_value.weights().chunk(2)
        else:
            query, key, value = self.query_key_value.weights().chunk(3)
        of = {own.query: query, own.key: key, own.value: value, layer.attention.output.dense: self.attended.weights(),
              layer.intermediate.dense: self.inner.weights(), layer.output.dense: self.outer.weights()}  # fmt: skip
        for linear, weight in of.items():
            linear.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)


def release(layer: Any) -> None:
    """Free the weights of a layer's products, for `StraightLayer.restore` to give back."""
    for name in _PARTS:
        linear = layer.get_submodule(name)
        linear.weight = torch.nn.Parameter(linear.weight.new_empty(0), requires_grad=False)
