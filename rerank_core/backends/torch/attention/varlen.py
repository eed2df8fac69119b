"""torch's variable-length attention: one kernel for rows of all lengths, laid end to end.

``torch.nn.attention.varlen`` calls FlashAttention 2 (Dao, 2023). It exists from torch 2.10 on, runs on CUDA only, and
does not take float32. `serves` decides from torch, device, dtype and width whether it can be called, so that no forward
pass fails halfway.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Any

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall

__all__ = ["attend", "possible", "serves"]

# The first version of the function lacked these arguments; it would ignore a model's scaling or window.
_NEEDED = ("scale", "window_size")
_DTYPES = (torch.float16, torch.bfloat16)
# Limits of the kernels that torch is built with; sdp_utils.cpp checks the same before SDPA uses them.
_OLDEST = (8, 0)
_WIDEST, _STEP = 256, 8


def possible(
    kind: str, generation: tuple[int, int], arguments: Collection[str], dtype: torch.dtype, width: int
) -> bool:
    """Whether variable-length attention supports this device, dtype and head width.

    Args:
        kind: ``torch.device.type``.
        generation: the compute capability of the device.
        arguments: names of the arguments of this torch's function; empty if torch does not have it.
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
    """`possible`, for the installed torch and this device."""
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
    """Attention of ``[total, heads, width]`` inside each row, with gradients.

    Args:
        key, value: may have fewer heads than the query (grouped-query attention).
        call: must have no soft cap, which the kernel does not support.
        cu_seqlens_q, cu_seqlens_k: ``[rows + 1]`` int32, where each row's queries and keys begin, and the total.
        longest: the largest number of queries and of keys of a row.
        causal: a query attends only to keys up to its own; the last query of a row is aligned with its last key.
    """
    function = _function()
    assert function is not None, "call serves() first"
    back = -1 if call.sliding_window is None or max(longest) <= call.sliding_window else call.sliding_window - 1
    window = (back, 0 if causal else back)
    if call.dropout:
        # torch's function has no dropout argument; the operator that it calls does.
        outputs = torch.ops.aten._flash_attention_forward(
            query, key, value, cu_seqlens_q, cu_seqlens_k, *longest, call.dropout, window == (-1, 0), False,
            scale=call.scale, window_size_left=window[0], window_size_right=window[1],
        )  # fmt: skip
        dropped: torch.Tensor = outputs[0]
        return dropped
    # Later versions require the argument for grouped-query attention; earlier versions need none.
    gqa = {"enable_gqa": True} if query.shape[1] != key.shape[1] and "enable_gqa" in _arguments() else {}
    out: torch.Tensor = function(
        query, key, value, cu_seqlens_q, cu_seqlens_k, *longest, scale=call.scale, window_size=window, **gqa
    )
    return out


@functools.cache
def _arguments() -> tuple[str, ...]:
    function = _function()
    return () if function is None else tuple(inspect.signature(function).parameters)


@functools.cache
def _function() -> Callable[..., Any] | None:
    # AMD's kernels have other limits under the same name, and some builds of torch have no kernel.
    if torch.version.hip is not None or not torch.backends.cuda.is_flash_attention_available():
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
