"""One kernel for rows of all lengths: torch's variable-length attention, where it serves.

``torch.nn.attention.varlen`` calls FlashAttention 2 (Dao, 2023) on rows laid end to end. It exists from torch 2.10 on,
runs on CUDA alone, and takes no float32. `serves` says so beforehand, from what is there and what is asked, so that
no error is caught in the middle of a forward pass.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall

__all__ = ["attend", "possible", "serves"]

# The first version of the function had neither; without them a model's own scaling or window would be lost.
_NEEDED = ("scale", "window_size")
_DTYPES = (torch.float16, torch.bfloat16)
# Of the kernels that torch is built with: sdp_utils.cpp checks the same before SDPA takes them.
_OLDEST = (8, 0)
_WIDEST, _STEP = 256, 8


def possible(
    kind: str, generation: tuple[int, int], arguments: Collection[str], dtype: torch.dtype, width: int
) -> bool:
    """Whether variable-length attention computes heads of this width, in this dtype, on this kind of device.

    Args:
        kind: of the device, as in ``torch.device.type``.
        generation: its compute capability.
        arguments: that the function here takes; none where it is not there.
    """
    return (
        kind == "cuda"
        and generation >= _OLDEST
        and all(name in arguments for name in _NEEDED)
        and dtype in _DTYPES
        and width <= _WIDEST
        and width % _STEP == 0
    )


@functools.lru_cache(maxsize=64)
def serves(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """`possible`, with the torch and the device that are here."""
    if device.type != "cuda":
        return False
    return possible(device.type, torch.cuda.get_device_capability(device), _arguments(), dtype, width)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    call: AttentionCall,
    *,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    longest: tuple[int, int],
    causal: bool = False,
) -> torch.Tensor:
    """Attention over ``[total, heads, width]`` inside each row, with its gradient.

    Args:
        key, value: may have fewer heads, each for as many of the query's.
        call: without a soft cap, which the kernel does not have.
        cu_seqlens_q: ``[rows + 1]`` int32, where each row's queries begin, and their number; ``cu_seqlens_k`` likewise.
        longest: row, in queries and in keys.
        causal: only keys before a query count, the last query of a row standing at its last key.
    """
    function = _function()
    assert function is not None, "serves() comes first"
    back = -1 if call.sliding_window is None or max(longest) <= call.sliding_window else call.sliding_window - 1
    window = (back, 0 if causal else back)
    if call.dropout:
        # The kernel under torch's function, which has no dropout of its own.
        found = torch.ops.aten._flash_attention_forward(
            query, key, value, cu_seqlens_q, cu_seqlens_k, *longest, call.dropout, window == (-1, 0), False,
            scale=call.scale, window_size_left=window[0], window_size_right=window[1],
        )  # fmt: skip
        dropped: torch.Tensor = found[0]
        return dropped
    # Later versions want to be told; the kernel has always shared heads.
    told = {"enable_gqa": True} if query.shape[1] != key.shape[1] and "enable_gqa" in _arguments() else {}
    out: torch.Tensor = function(
        query, key, value, cu_seqlens_q, cu_seqlens_k, *longest, scale=call.scale, window_size=window, **told
    )
    return out


@functools.cache
def _arguments() -> tuple[str, ...]:
    function = _function()
    return () if function is None else tuple(inspect.signature(function).parameters)


@functools.cache
def _function() -> Callable[..., Any] | None:
    # AMD's kernels behind the same name have other limits, and some builds have none.
    if torch.version.hip is not None or not torch.backends.cuda.is_flash_attention_available():
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
