"""No padding: the rows of a batch laid end to end in one ``[1, total]`` row, each attending only to itself.

One attention function is registered with transformers' AttentionInterface and finds the boundaries in the keyword
arguments that a model hands down to its layers. Whether a model does hand them down is not read off its name: the
scorer runs a few short rows both ways and compares (`probe_rows`, `agree`, `other_neighbours`).
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
from rerank_core.backends.torch.attention.causal_packing import CausalPacking, capped
from rerank_core.backends.torch.attention.ragged import concat_ranges, concat_rows

__all__ = ["NAME", "Packing", "agree", "inputs", "other_neighbours", "probe_rows"]

NAME = "rerank_core_packed_v1"
"""The attention implementation's name at transformers. Without a packing in its arguments it is plain SDPA,
and where attention weights are capped, which SDPA cannot, plain products."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the rows of a batch lie.

    Attributes:
        lengths: tokens of each row.
        groups: ``(start, rows, length)`` of neighbouring rows of one length, which attend in one call.
        cu_seqlens: ``[rows + 1]`` int32, the place of each row's first token and the total, on the model's device.
        row_starts: ``[rows]``, the same without the total, to index with.
        allow_varlen: whether variable-length attention may be used where it serves; else the groups always are.
    """

    lengths: tuple[int, ...]
    groups: tuple[tuple[int, int, int], ...]
    cu_seqlens: torch.Tensor
    row_starts: torch.Tensor
    allow_varlen: bool = True

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device, *, allow_varlen: bool = True) -> Packing:
        """The packing of rows of these lengths, in their order."""
        groups: list[tuple[int, int, int]] = []
        place = 0
        for length in lengths:
            if groups and groups[-1][2] == length:
                start, rows, _ = groups[-1]
                groups[-1] = (start, rows + 1, length)
            else:
                groups.append((place, 1, length))
            place += length
        cu_seqlens = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32, device=device)
        return cls(tuple(lengths), tuple(groups), cu_seqlens, cu_seqlens[:-1].long(), allow_varlen)

    def uses_varlen(self, query: torch.Tensor) -> bool:
        """Whether all rows attend in one kernel: the same for every layer, whose heads are alike."""
        return self.allow_varlen and varlen.serves(query.device, query.dtype, query.shape[-1])

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
        """``[1, total, heads, width]`` for ``[1, heads, total, width]``."""
        if call.softcap is not None:
            raise NotImplementedError("no encoder is known that caps its attention weights")
        _, heads, total, _ = query.shape
        if self.uses_varlen(query):
            q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))
            longest = (max(self.lengths),) * 2
            return varlen.attend(
                q, k, v, call, cu_seqlens_q=self.cu_seqlens, cu_seqlens_k=self.cu_seqlens, longest=longest
            )[None]
        # A trainer may want the scores of training mode, dropout and all, before it wants their gradient.
        if call.dropout or torch.is_grad_enabled():
            return self._attend_in_training(query, key, value, call)
        out = torch.empty((total, heads, value.shape[-1]), dtype=query.dtype, device=query.device)
        products = query.device.type == "cpu" and query.dtype == torch.float32
        for start, rows, length in self.groups:
            mask = _window(length, call.sliding_window, query.device)
            if products and heads * length * length <= _SHORT and mask is None:
                for place in range(start, start + rows * length, length):
                    q, k, v = (part[0, :, place : place + length] for part in (query, key, value))
                    out[place : place + length] = _short(q, k, v, call)
                continue
            inside = slice(start, start + rows * length)
            shape = (heads, rows, length, -1)
            q, k, v = (part[0, :, inside].view(shape).transpose(0, 1) for part in (query, key, value))
            attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=call.scale)
            out[inside].view(rows, length, heads, -1).copy_(attended.transpose(1, 2))
        return out[None]

    def _attend_in_training(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> torch.Tensor:
        """`attend` in parts that are cut and joined once: a gradient through slices of a whole costs the whole for
        every slice."""
        if dropout_attention.serves(query, call.dropout):
            return dropout_attention.attend(query[0], key[0], value[0], self.groups, call)[None]
        sizes = [rows * length for _, rows, length in self.groups]
        parts = zip(self.groups, *(torch.split(part[0], sizes, dim=1) for part in (query, key, value)), strict=True)
        out = []
        for (_, rows, length), *cut in parts:
            q, k, v = (part.view(part.shape[0], rows, length, -1).transpose(0, 1) for part in cut)
            mask = _window(length, call.sliding_window, query.device)
            attended = torch.nn.functional.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, scale=call.scale, dropout_p=call.dropout
            )
            out.append(attended.transpose(1, 2).flatten(0, 1))
        return torch.cat(out)[None]


# Attention weights of one row, below which two plain products on a CPU take two thirds of the time of its fused kernel;
# above, they no longer stay in cache. Measured with 12 heads of 32 and of 64: rows of 20 to 160 tokens.
_SHORT = 300_000


def _window(length: int, sliding_window: int | None, device: torch.device) -> torch.Tensor | None:
    """The mask of rows that are longer than the window; None where every token sees the whole row."""
    return None if sliding_window is None or length <= sliding_window else _band(length, sliding_window, device)


@functools.lru_cache(maxsize=64)
def _band(length: int, sliding_window: int, device: torch.device) -> torch.Tensor:
    """``[length, length]``: True where two positions are less than ``sliding_window`` apart (ModernBERT)."""
    places = torch.arange(length, device=device)
    return (places[:, None] - places[None, :]).abs() < sliding_window


def _short(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    """Attention of one row, ``[heads, length, width]`` to ``[length, heads, width]``, as two products."""
    weights = torch.bmm(query * call.scale_for(query), key.mT)
    return torch.bmm(torch.softmax(weights, dim=-1), value).transpose(0, 1)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | CausalPacking | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over ``[1, heads, total, width]`` inside each row; ``[1, total, heads, width]`` comes back."""
    call = AttentionCall.from_kwargs(more)
    if packing is None and call.softcap is not None:
        return capped(query, key, value, attention_mask, call), None
    if packing is None:
        plain: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
        result: tuple[torch.Tensor, None] = plain(module, query, key, value, attention_mask, **more)
        return result
    query, key, value = _lowered(query, key, value)
    return packing.attend(query, key, value, call), None


def _lowered(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values in autocast's dtype, as SDPA would take them: some models normalize or rotate them in
    float32, which has no kernel for rows of all lengths."""
    kind = parts[0].device.type
    if kind != "cuda" or not torch.is_autocast_enabled(kind):
        return parts
    return tuple(part.to(torch.get_autocast_dtype(kind)) for part in parts)


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
    """Model inputs ``[1, total]`` for rows laid end to end, with the packing that keeps them apart."""
    lengths = [len(row) for row in rows]
    made: dict[str, Any] = {
        "input_ids": concat_rows(rows, device),
        "position_ids": concat_ranges([first_position] * len(rows), lengths, device)[None],
        # A mask of four dimensions is "already prepared": models pass it on untouched, and it is not looked at.
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
        "packing": Packing.of(lengths, device, allow_varlen=allow_varlen),
    }
    if typed:
        kinds = ((own or [0] * length) for length, own in zip(lengths, types, strict=True))
        made["token_type_ids"] = concat_rows(kinds, device)
    return made


def probe_rows(module: Any) -> list[list[int]]:
    """A few short rows of ordinary ids on which two ways of computing can be compared; where the model has local
    attention, one of them is longer than its window."""
    window = getattr(module.config, "sliding_window", None) or getattr(module.config, "local_attention", None) or 0
    size = module.get_input_embeddings().weight.shape[0]
    # A decoder's window of thousands would make the trial longer than the work; its own tests have a short one.
    local = 0 < window <= 1024
    longest = min(window + 40, getattr(module.config, "max_position_embeddings", 512) - 8) if local else 12
    return [
        [5 + (7 * place * place + 3 * length) % (size - 5) for place in range(length)] for length in (longest, 7, 7, 3)
    ]


def agree(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], dtype: torch.dtype) -> bool:
    """Whether two ways gave the same numbers, or vectors along the last dimension, up to what the dtype can tell.

    Args:
        dtype: that the model computes in; what is read off it may have been made float32 since.
    """
    return len(expected) == len(found) and all(
        a.shape == b.shape and _apart(a.float(), b.float()) <= _TOLERANCE[dtype]
        for a, b in zip(expected, found, strict=True)
    )


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """The largest distance of ``b`` from ``a``: relative where ``a`` is longer than one; NaN is never near."""
    a, b = (side.reshape(side.shape or (1,)) for side in (a, b))
    return float(((a - b).norm(dim=-1) / a.norm(dim=-1).clamp(min=1)).amax())


# Below float32 wide enough for a dozen layers of rounding, and so too wide for a small leak from row to row:
# `other_neighbours` shows that one, in any dtype.
_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


def other_neighbours(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The first row as it is and the others backwards: the same lengths, so the same kernels, and other neighbours."""
    return [list(rows[0]), *(list(row)[::-1] for row in rows[1:])]
