"""Linear layers in int8 on the CPU: weights are quantized once per output channel, activations per token.

With one activation range for a whole batch, a score would depend on the other rows and their order; a range per token
avoids that. With ``x = step * bytes + offset``, ``x @ W.T = step * (bytes @ W.T) + offset * W.sum(1)``. This is the
dynamic quantization of Dettmers et al., *LLM.int8()*, 2022, without its treatment of outliers. The operators are those
of torch's compiler, because torch's quantized tensors are deprecated.
"""

from __future__ import annotations

import functools
import threading
import weakref

import torch

__all__ = ["available", "quantize"]

# Number of input rows that the layout is chosen for; other numbers work too.
_ROWS = 2048
_TINY = torch.finfo(torch.float32).tiny
_WHOLE = 1.5 * 2**23

_LAST = threading.local()


class Int8Linear(torch.nn.Module):
    """``x @ weight.T + bias`` for float32 ``[..., in]``; replaces a ``torch.nn.Linear``."""

    weight = None  # T5 reads the dtype of a layer's weight, where it is a tensor

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scales = (weight.abs().amax(dim=1) / _largest_weight()).clamp(min=_TINY)
        rounded = (weight / scales[:, None]).round()
        self._weight = torch.ops.onednn.qlinear_prepack(rounded.to(torch.int8), [_ROWS, linear.in_features])
        self._scales, self._zeros = scales, torch.zeros_like(scales, dtype=torch.long)
        self._sums = rounded.sum(dim=1) * scales
        self._bias = torch.zeros_like(scales) if linear.bias is None else linear.bias.detach()
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bytes_, steps, offsets = _quantized(x)
        out: torch.Tensor = torch.ops.onednn.qlinear_pointwise(
            bytes_, 1.0, 0, self._weight, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        torch.addcmul(self._bias, out, steps, out=out)
        out.addcmul_(offsets, self._sums)
        return out.view(*x.shape[:-1], self.out_features)


@functools.lru_cache(maxsize=1)
def _largest_weight() -> int:
    """The int8 value of the largest weight of a channel: 127 if this CPU's products are exact, else 64.

    Without VNNI (AVX2) a CPU adds two products in 16 bits and saturates at 32,767: 255 * 127 * 2 overflows,
    255 * 64 * 2 does not. A test product decides, because oneDNN chooses the instructions.
    """
    width = 64
    largest = torch.full((width, width), 127, dtype=torch.int8, device="cpu")
    prepacked = torch.ops.onednn.qlinear_prepack(largest, [_ROWS, width])
    scales = torch.ones(width, dtype=torch.float32, device="cpu")
    product = torch.ops.onednn.qlinear_pointwise(
        torch.full_like(largest, 255, dtype=torch.uint8), 1.0, 0, prepacked, scales,
        torch.zeros_like(scales, dtype=torch.long), None, 1.0, 0, torch.float32, "none", [], "",
    )  # fmt: skip
    return 127 if bool((product == 255 * 127 * width).all()) else 64


Quantized = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _quantized(x: torch.Tensor) -> Quantized:
    """Quantized activations ``[tokens, in]``, and the step and offset of each token, ``[tokens, 1]``. The range of each
    token includes zero, and the byte of zero is a whole number, so that zeros stay zero.

    The query, key and value layers quantize the same tensor in turn, so each thread keeps its last result.
    """
    if getattr(_LAST, "of", lambda: None)() is not x:
        flat = x.reshape(-1, x.shape[-1])
        lows = flat.amin(dim=-1, keepdim=True).clamp_(max=0)
        # 254 and not 255: rounding the byte of zero may move the largest value by one.
        steps = flat.amax(dim=-1, keepdim=True).clamp_(min=0).sub_(lows).mul_(1 / 254).clamp_(min=_TINY)
        inverse = steps.reciprocal()
        zeros = _WHOLE - lows * inverse
        # Numbers of this size have no fraction, so the addition rounds, and the last byte of the sum is the number.
        # Each step is one that torch vectorizes; conversion from float32 to uint8 is not one.
        bytes_ = (flat * inverse).add_(zeros).view(torch.int32).to(torch.uint8)
        _LAST.result = (bytes_, steps, (_WHOLE - zeros).mul_(steps))
        _LAST.of = weakref.ref(x)
    result: Quantized = _LAST.result
    return result


def available() -> bool:
    """Whether this build of torch has the operators."""
    return hasattr(torch.ops.onednn, "qlinear_prepack") and hasattr(torch.ops.onednn, "qlinear_pointwise")


def quantize(module: torch.nn.Module) -> int:
    """Replace the linear layers of the encoder; embeddings, norms and head do not change.

    Returns:
        the number of replaced layers, whose float32 weights are freed.
    """
    base = getattr(module, "base_model", module)
    pooler = getattr(base, "pooler", None)
    head = set() if pooler is None else set(pooler.modules())
    count = 0
    for parent in list(base.modules()):
        if parent in head:
            continue
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                setattr(parent, name, Int8Linear(child))
                count += 1
    return count
