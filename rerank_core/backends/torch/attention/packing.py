"""Attention without padding: the rows of a batch lie end to end in one ``[1, total]`` row, and each attends to itself.

One attention function is registered with transformers' AttentionInterface. It reads the row boundaries from the keyword
arguments that a model passes down to its layers. Not every model passes them down, so the scorer runs a few short rows
packed and padded at load and compares the results (`probe_rows`, `agree`, `other_neighbours`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from rerank_core.backends.torch.attention import dropout as dropout_attention
from rerank_core.backends.torch.attention import varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.causal_packing import CausalPacking, attend_rows, capped
from rerank_core.backends.torch.attention.ragged import concat_ranges, concat_rows, integers
from rerank_core.backends.torch.load_weights import quiet

__all__ = ["NAME", "Packing", "agree", "embedding_rows", "inputs", "other_neighbours", "probe_rows", "set_attention"]

NAME = "rerank_core_packed_v1"
"""The name of the attention implementation in transformers. A call without a packing runs SDPA, or plain products where
the attention logits have a soft cap, which SDPA does not support."""


@dataclass(frozen=True, eq=False)
class Packing:
    """The row boundaries of a packed batch.

    Attributes:
        lengths: tokens of each row.
        groups: ``(start, rows, length)`` of adjacent rows of one length, which attend in one call.
        cu_seqlens: ``[rows + 1]`` int32, the position of each row's first token and the total, on the model's device.
        row_starts: ``[rows]`` int64, ``cu_seqlens`` without the total, to index with.
        allow_varlen: use variable-length attention where it is supported; if False, always use the groups.
    """

    lengths: tuple[int, ...]
    groups: tuple[tuple[int, int, int], ...]
    cu_seqlens: torch.Tensor
    row_starts: torch.Tensor
    allow_varlen: bool = True

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device, *, allow_varlen: bool = True) -> Packing:
        """The packing of rows of these lengths, in this order."""
        groups: list[tuple[int, int, int]] = []
        position = 0
        for length in lengths:
            if groups and groups[-1][2] == length:
                start, rows, _ = groups[-1]
                groups[-1] = (start, rows + 1, length)
            else:
                groups.append((position, 1, length))
            position += length
        cu_seqlens = integers([0, *itertools.accumulate(lengths)], device, torch.int32)
        return cls(tuple(lengths), tuple(groups), cu_seqlens, cu_seqlens[:-1].long(), allow_varlen)

    def uses_varlen(self, query: torch.Tensor) -> bool:
        """Whether all rows attend in one call of the variable-length kernel; the same in every layer of a model."""
        return self.allow_varlen and varlen.serves(query.device, query.dtype, query.shape[-1])

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
        """``[1, total, heads, width]`` for ``[1, heads, total, width]``; key and value may have fewer heads."""
        _, heads, total, _ = query.shape
        if call.softcap is None and call.bias is None and self.uses_varlen(query):
            q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
            longest = (max(self.lengths),) * 2
            return varlen.attend(
                q, k, v, call, cu_seqlens_q=self.cu_seqlens, cu_seqlens_k=self.cu_seqlens, longest=longest
            )[None]
        # A trainer may compute scores with dropout and without gradients first, so dropout alone is enough.
        if call.softcap is not None or key.shape[1] != heads or call.dropout or torch.is_grad_enabled():
            return self._attend_by_group(query, key, value, call)[None]
        out = torch.empty((total, heads, value.shape[-1]), dtype=query.dtype, device=query.device)
        products = query.device.type == "cpu" and query.dtype == torch.float32
        for start, rows, length in self.groups:
            mask = _mask(length, call, query.device)
            if products and heads * length * length <= _SHORT and mask is None:
                for first in range(start, start + rows * length, length):
                    q, k, v = (part[0, :, first : first + length] for part in (query, key, value))
                    out[first : first + length] = _short(q, k, v, call)
                continue
            inside = slice(start, start + rows * length)
            shape = (heads, rows, length, -1)
            q, k, v = (part[0, :, inside].view(shape).transpose(0, 1) for part in (query, key, value))
            attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=call.scale)
            out[inside].view(rows, length, heads, -1).copy_(attended.transpose(1, 2))
        return out[None]

    def _attend_by_group(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> torch.Tensor:
        """``[total, heads, width]`` for training, a soft cap, or key heads that query heads share. With one split and
        one concatenation: the backward pass of a slice allocates the whole tensor, for every slice."""
        shared = key.shape[1] != query.shape[1]
        if call.bias is None and call.softcap is None and not shared and dropout_attention.serves(query, call.dropout):
            return dropout_attention.attend(query[0], key[0], value[0], self.groups, call)
        sizes = [rows * length for _, rows, length in self.groups]
        parts = zip(self.groups, *(torch.split(part[0], sizes, dim=1) for part in (query, key, value)), strict=True)
        out = []
        for (_, rows, length), *cut in parts:
            q, k, v = (part.view(part.shape[0], rows, length, -1).transpose(0, 1) for part in cut)
            mask = _mask(length, call, query.device)
            out.append(attend_rows(q, k, v, mask, call).transpose(1, 2).flatten(0, 1))
        return torch.cat(out)


# Up to this number of attention weights a row, two plain products on a CPU take two thirds of the time of the fused
# kernel; above it they no longer fit in cache. Measured with 12 heads of 32 and of 64: rows of 20 to 160 tokens.
_SHORT = 300_000


def _mask(length: int, call: AttentionCall, device: torch.device) -> torch.Tensor | None:
    """The mask for rows longer than the window, and the numbers added to the products; None without both, where every
    token attends to the whole row."""
    window = call.sliding_window
    mask = None if window is None or length <= window else _band(length, window, device)
    if call.bias is None:
        return mask
    bias = call.bias[..., :length, :length]
    return bias if mask is None else bias.masked_fill(~mask, -torch.inf)


@functools.lru_cache(maxsize=64)
def _band(length: int, sliding_window: int, device: torch.device) -> torch.Tensor:
    """``[length, length]``: True where two positions are less than ``sliding_window`` apart (ModernBERT)."""
    positions = torch.arange(length, device=device)
    return (positions[:, None] - positions[None, :]).abs() < sliding_window


def _short(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    """Attention of one row as two products: from ``[heads, length, width]`` to ``[length, heads, width]``."""
    weights = torch.bmm(query * call.scale_for(query), key.mT)
    return torch.bmm(torch.softmax(weights, dim=-1), value).transpose(0, 1)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | CausalPacking | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of ``[1, heads, total, width]`` inside each row; returns ``[1, total, heads, width]``."""
    call = AttentionCall.from_kwargs(kwargs)
    if packing is None and call.softcap is not None:
        causal = bool(getattr(module, "is_causal", True))
        return capped(query, key, value, attention_mask, call, causal=causal), None
    if packing is None:
        plain: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
        result: tuple[torch.Tensor, None] = plain(module, query, key, value, attention_mask, **kwargs)
        return result
    query, key, value = _autocast(query, key, value)
    return packing.attend(query, key, value, call), None


def _autocast(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values in the dtype of autocast, as SDPA casts them: some models normalize or rotate them in
    float32, which the variable-length kernel does not support."""
    device = tensors[0].device.type
    if device != "cuda" or not torch.is_autocast_enabled(device):
        return tensors
    return tuple(tensor.to(torch.get_autocast_dtype(device)) for tensor in tensors)


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def inputs(
    rows: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None],
    *,
    first_position: int,
    typed: bool,
    device: torch.device,
    allow_varlen: bool = True,
) -> dict[str, Any]:
    """Model inputs ``[1, total]`` for rows laid end to end, and the packing with their boundaries."""
    lengths = [len(row) for row in rows]
    kwargs: dict[str, Any] = {
        "input_ids": concat_rows(rows, device),
        "position_ids": concat_ranges([first_position] * len(rows), lengths, device)[None],
        # transformers passes a 4-D mask on unchanged; `_attention` ignores it.
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
        "packing": Packing.of(lengths, device, allow_varlen=allow_varlen),
    }
    if typed:
        type_ids = ((ids or [0] * length) for length, ids in zip(lengths, types, strict=True))
        kwargs["token_type_ids"] = concat_rows(type_ids, device)
    return kwargs


def set_attention(module: Any, name: str | None) -> None:
    """Set a module's attention implementation. A module that has only its own (MPNet) keeps it, without a warning of
    transformers."""
    with quiet():
        module.set_attn_implementation(name)


def embedding_rows(module: Any) -> int:
    """The number of token embeddings of a module; a compressed table has no ``weight``."""
    table = module.get_input_embeddings()
    return int(table.weight.shape[0] if hasattr(table, "weight") else table.num_embeddings)


def probe_rows(module: Any) -> list[list[int]]:
    """A few short rows of token ids for comparing two ways to compute. If the model has local attention, one row is
    longer than its window."""
    config = getattr(module.config, "encoder", module.config)
    window = getattr(config, "sliding_window", None) or getattr(config, "local_attention", None) or 0
    size = embedding_rows(module)
    # A decoder's window of thousands of tokens would make this comparison slow; tests use a short window.
    local = 0 < window <= 1024
    longest = min(window + 40, getattr(config, "max_position_embeddings", 512) - 8) if local else 12
    return [[5 + (7 * i * i + 3 * length) % (size - 5) for i in range(length)] for length in (longest, 7, 7, 3)]


def agree(expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether two lists of scores, or of vectors along the last dimension, are equal within the dtype's tolerance.

    Args:
        dtype: the dtype that the model computes in; the tensors themselves may be float32.
    """
    return len(expected) == len(actual) and all(
        a.shape == b.shape and _distance(a.float(), b.float()) <= _TOLERANCE[dtype]
        for a, b in zip(expected, actual, strict=True)
    )


def _distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest distance between vectors of ``a`` and ``b``, divided by the norm of ``a`` where that exceeds 1. NaN
    stays NaN, so that it is never within a tolerance."""
    a, b = (side.reshape(side.shape or (1,)) for side in (a, b))
    return float(((a - b).norm(dim=-1) / a.norm(dim=-1).clamp(min=1)).amax())


# In half precision the tolerance allows for the rounding of a dozen layers, so it would miss a small influence of one
# row on another; `other_neighbours` detects that in any dtype.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def other_neighbours(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The first row unchanged and the others reversed. The lengths and kernels do not change, so the first row's score
    must not either."""
    return [list(rows[0]), *(list(row)[::-1] for row in rows[1:])]
