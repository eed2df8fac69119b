"""Linear layers on the CPU with weights reordered once for oneDNN, and GELU computed inside the product.

``torch.nn.Linear`` multiplies from the ordinary layout, and the activation is a second pass over memory. oneDNN reads
weights in blocks. The two operators used here are those of torch's compiler. They are not public, so `prepack` is
used only where they exist, and the scorer compares results with the plain module (`TorchScorer.probe`).
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["PrepackedLinear", "available", "gelu_after", "prepack", "restore"]

# Number of input rows that the layout is chosen for; other numbers work too.
_ROWS = 2048


class PrepackedLinear(torch.nn.Module):
    """``activation(x @ weight.T + bias)`` for float32 ``[..., in]``; replaces a ``torch.nn.Linear``."""

    weight = None  # T5 reads the dtype of a layer's weight, where it is a tensor

    def __init__(self, linear: torch.nn.Linear, activation: str = "none", algorithm: str = "") -> None:
        super().__init__()
        weight, bias = linear.weight.detach(), linear.bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = None if bias is None else bias.detach()
        self._epilogue: tuple[str, list[float], str] = (activation, [], algorithm)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def plain(self) -> torch.nn.Linear:
        """The linear layer that this one replaced, with equal weights; without the activation."""
        linear = torch.nn.Linear(self.in_features, self.out_features, bias=self._bias is not None, device="meta")
        linear.weight = torch.nn.Parameter(self._weight.to_dense(), requires_grad=False)
        if self._bias is not None:
            linear.bias = torch.nn.Parameter(self._bias, requires_grad=False)
        return linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, *self._epilogue)
        return result


def available(module: torch.nn.Module) -> bool:
    """Whether this torch has the operators and the module computes in float32 on the CPU."""
    parameter = next(module.parameters())
    operators = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    return operators and parameter.device.type == "cpu" and parameter.dtype == torch.float32


def prepack(module: torch.nn.Module) -> list[tuple[torch.nn.Module, str, Any]]:
    """Replace the linear layers inside a module. Each layer's weights are freed before the next layer is prepared, so
    that they are in memory once and not twice.

    A GELU after a layer (BERT's ``intermediate.dense`` and ``intermediate_act_fn``) is computed inside the product.

    Returns:
        the replaced parts as ``(parent, name, original activation or None for a linear layer)``, for `restore`.
    """
    replaced: list[tuple[torch.nn.Module, str, Any]] = []
    # The list must not hold the linear layers themselves.
    for parent in [part for part in module.modules() if type(part) is not torch.nn.Linear]:
        for name in [name for name, _ in parent.named_children()]:
            linear = getattr(parent, name)
            if type(linear) is not torch.nn.Linear or linear.out_features == 1:
                continue
            fused = gelu_after(parent, name)
            setattr(parent, name, PrepackedLinear(linear, "gelu", "none") if fused else PrepackedLinear(linear))
            replaced.append((parent, name, None))
            if fused:
                replaced.append((parent, "intermediate_act_fn", parent.intermediate_act_fn))
                parent.intermediate_act_fn = torch.nn.Identity()
    return replaced


def restore(replaced: list[tuple[torch.nn.Module, str, Any]]) -> None:
    """Undo `prepack`. The weights are read back from their prepared form, which holds the same numbers."""
    for parent, name, activation in reversed(replaced):
        setattr(parent, name, getattr(parent, name).plain() if activation is None else activation)


def gelu_after(parent: torch.nn.Module, name: str) -> bool:
    """Whether an exact GELU follows the linear layer ``parent.name``, which can be computed inside the product."""
    return name == "dense" and _is_gelu(getattr(parent, "intermediate_act_fn", None))


def _is_gelu(function: Any) -> bool:
    """Whether an activation is the exact GELU and not an approximation."""
    if function is None:
        return False
    # Large numbers too, where "gelu_10" is cut off.
    near = torch.linspace(-4, 4, 33, dtype=torch.float32, device="cpu")
    probe = torch.cat([near, near * 3, near * 1000])
    try:
        values = function(probe)
    except Exception:  # noqa: BLE001 -- not an element-wise function
        return False
    return isinstance(values, torch.Tensor) and torch.allclose(
        values, torch.nn.functional.gelu(probe), atol=1e-7, rtol=0
    )
