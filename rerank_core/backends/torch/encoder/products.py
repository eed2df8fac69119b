"""Products of activations with the weights of one or several linear layers, in the three ways that a layer may compute
them: torch's own, prepared for oneDNN, or in int8.

All of them take ``[tokens, in]`` and give ``[tokens, out]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import torch

from rerank_core.backends.torch.linear.int8 import Int8Linear
from rerank_core.backends.torch.linear.onednn import PrepackedLinear

__all__ = ["Int8", "MakeProduct", "Plain", "Prepared", "Product", "fused"]


class Product(Protocol):
    """``x @ weight.T + bias``, with what follows it in a layer."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        """The exact GELU of the product."""
        ...

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product plus ``other [tokens, out]``."""
        ...

    def weights(self) -> torch.Tensor:
        """``[out, in]``, the numbers that the product was made from."""
        ...


MakeProduct: TypeAlias = Callable[[torch.nn.Linear], Product]


class Plain(torch.nn.Module):
    """torch's own product."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self(x))

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self(x) + other
        return out

    def weights(self) -> torch.Tensor:
        return self.weight.detach()


class Prepared(PrepackedLinear):
    """Weights in oneDNN's blocks; GELU and addition are computed inside the product."""

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "gelu", [], "none")
        return out

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "add")
        return out

    def weights(self) -> torch.Tensor:
        out: torch.Tensor = self._weight.to_dense()
        return out


class Int8(Int8Linear):
    """An int8 product."""

    def gelu(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self(x))

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self(x).add_(other)
        return out

    def weights(self) -> torch.Tensor:
        raise NotImplementedError("int8 weights are rounded, so the layer cannot be restored")


def fused(linears: Sequence[torch.nn.Linear]) -> torch.nn.Linear:
    """One linear layer with the outputs of several side by side."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    joined = torch.nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    joined.weight = torch.nn.Parameter(weight, requires_grad=False)
    biases = [
        linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias.detach()
        for linear in linears
    ]
    joined.bias = torch.nn.Parameter(torch.cat(biases), requires_grad=False)
    return joined
