"""Linear layers on CPU with weights laid out once for oneDNN, and GELU computed inside the product.

torch's own linear multiplies from the ordinary layout and makes a second pass over memory for the activation. oneDNN
takes weights in the blocks its kernels read, which torch's compiler uses through the same two operators; they are not
public, so `prepack` is used only where they are there, and `packing.probe` compares their result with the plain one.
"""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["available", "gelu_after", "prepack", "restore"]

# Rows that the layout is chosen for; any number works.
_ROWS = 2048


class PrepackedLinear(torch.nn.Module):
    """``activation(x @ weight.T + bias)`` for float32 ``[..., in]``; takes the place of the layer it was made from."""

    def __init__(self, linear: torch.nn.Linear, activation: str = "none", algorithm: str = "") -> None:
        super().__init__()
        weight, bias = linear.weight.detach(), linear.bias
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
        self._bias = None if bias is None else bias.detach()
        self._epilogue: tuple[str, list[float], str] = (activation, [], algorithm)
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, *self._epilogue)
        return result


def available(module: torch.nn.Module) -> bool:
    """Whether the operators exist here and the module computes in float32 on the CPU."""
    parameter = next(module.parameters())
    operators = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    return operators and parameter.device.type == "cpu" and parameter.dtype == torch.float32


def prepack(module: torch.nn.Module) -> list[tuple[torch.nn.Module, str, Any]]:
    """Replace the linear layers inside a module; the original weights go, so memory does not grow.

    A GELU that follows (BERT's ``intermediate.dense`` and ``intermediate_act_fn``) moves into the product.

    Returns:
        what was replaced, as ``(parent, name, original)``: `restore` puts it back.
    """
    replaced: list[tuple[torch.nn.Module, str, Any]] = []
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is not torch.nn.Linear or child.out_features == 1:
                continue
            fused = gelu_after(parent, name)
            new = PrepackedLinear(child, "gelu", "none") if fused else PrepackedLinear(child)
            replaced.append((parent, name, child))
            setattr(parent, name, new)
            if fused:
                replaced.append((parent, "intermediate_act_fn", parent.intermediate_act_fn))
                parent.intermediate_act_fn = torch.nn.Identity()
    return replaced


def restore(replaced: list[tuple[torch.nn.Module, str, Any]]) -> None:
    """Undo `prepack`."""
    for parent, name, original in reversed(replaced):
        setattr(parent, name, original)


def gelu_after(parent: torch.nn.Module, name: str) -> bool:
    """Whether the linear layer ``parent.name`` is followed by an exact GELU that can move into its product."""
    return name == "dense" and _is_gelu(getattr(parent, "intermediate_act_fn", None))


def _is_gelu(function: Any) -> bool:
    """Whether an activation is the exact GELU, and not one of its approximations."""
    if function is None:
        return False
    probe = torch.linspace(-4, 4, 33)
    try:
        found = function(probe)
    except Exception:  # noqa: BLE001 -- something else than an element-wise function
        return False
    return isinstance(found, torch.Tensor) and torch.allclose(found, torch.nn.functional.gelu(probe), atol=1e-7, rtol=0)
