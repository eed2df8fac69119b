"""No padding: the rows of a batch laid end to end in one ``[1, total]`` row, each attending only to itself.

One attention function is registered with transformers' AttentionInterface and finds the boundaries in the keyword
arguments that a model hands down to its layers. Whether a model does hand them down is not read off its name: `probe`
runs a few short rows both ways and compares.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

__all__ = ["NAME", "Packing", "inputs", "probe", "read_first_tokens"]

NAME = "rerank_core_packed_v1"
"""The attention implementation's name at transformers. Without a packing in its arguments it is plain SDPA."""


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the rows of a batch lie.

    Attributes:
        lengths: tokens of each row.
        groups: ``(start, rows, length)`` of neighbouring rows of one length, which attend in one call.
        starts: ``[rows]``, the place of each row's first token, on the model's device.
    """

    lengths: tuple[int, ...]
    groups: tuple[tuple[int, int, int], ...]
    starts: torch.Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Packing:
        """The packing of rows of these lengths, in their order."""
        groups: list[tuple[int, int, int]] = []
        starts = []
        place = 0
        for length in lengths:
            starts.append(place)
            if groups and groups[-1][2] == length:
                start, rows, _ = groups[-1]
                groups[-1] = (start, rows + 1, length)
            else:
                groups.append((place, 1, length))
            place += length
        return cls(tuple(lengths), tuple(groups), torch.tensor(starts, device=device))


@functools.lru_cache(maxsize=64)
def _window(length: int, reach: int, device: torch.device) -> torch.Tensor:
    """``[length, length]``: whether two positions are less than ``reach`` apart (ModernBERT's local layers)."""
    places = torch.arange(length, device=device)
    return (places[:, None] - places[None, :]).abs() < reach


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention over ``[1, heads, total, width]`` inside each row; ``[1, total, heads, width]`` comes back."""
    if packing is None:
        plain: Any = ALL_ATTENTION_FUNCTIONS["sdpa"]
        result: tuple[torch.Tensor, None] = plain(module, query, key, value, attention_mask, **more)
        return result
    _, heads, total, _ = query.shape
    reach = more.get("sliding_window")
    out = torch.empty((total, heads, value.shape[-1]), dtype=query.dtype, device=query.device)
    for start, rows, length in packing.groups:
        inside = slice(start, start + rows * length)
        shape = (heads, rows, length, -1)
        q, k, v = (part[0, :, inside].view(shape).transpose(0, 1) for part in (query, key, value))
        mask = _window(length, reach, query.device) if reach is not None and length > reach else None
        attended = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=more.get("scaling"))
        out[inside].view(rows, length, heads, -1).copy_(attended.transpose(1, 2))
    return out[None], None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def inputs(
    rows: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None],
    *,
    first_position: int,
    typed: bool,
    device: torch.device,
) -> dict[str, Any]:
    """Model inputs ``[1, total]`` for rows laid end to end, with the packing that keeps them apart."""
    lengths = [len(row) for row in rows]
    flat = [id_ for row in rows for id_ in row]
    places = [first_position + place for length in lengths for place in range(length)]
    made: dict[str, Any] = {
        "input_ids": torch.tensor([flat], device=device),
        "position_ids": torch.tensor([places], device=device),
        # A mask of four dimensions is "already prepared": models pass it on untouched, and it is not looked at.
        "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device),
        "packing": Packing.of(lengths, device),
    }
    if typed:
        kinds = [kind for row, own in zip(rows, types, strict=True) for kind in (own or [0] * len(row))]
        made["token_type_ids"] = torch.tensor([kinds], device=device)
    return made


def read_first_tokens(module: torch.nn.Module) -> None:
    """Make a classifier's base model give, for a packed batch, ``[rows, 1, width]``: the first token of each row.

    The head then reads it as it reads ``hidden[:, 0]`` of a padded batch. Calls without a packing are untouched.
    """
    base: Any = getattr(module, "base_model", None)
    if base is None or base is module or getattr(base, "_rerank_core_reads_first", False):
        return

    def gather(base: Any, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        packing: Packing | None = kwargs.get("packing")
        if packing is None:
            return output
        output.last_hidden_state = output.last_hidden_state[0, packing.starts][:, None]
        if getattr(output, "pooler_output", None) is not None:
            output.pooler_output = base.pooler(output.last_hidden_state)
        return output

    base.register_forward_hook(gather, with_kwargs=True)
    base._rerank_core_reads_first = True


def probe(module: Any, one_by_one: Any, packed: Any) -> bool:
    """Whether a module gives packed rows what it gives them alone; switches its attention over if it does.

    Args:
        one_by_one, packed: functions from rows of token ids to one tensor a row.
    """
    before = getattr(module.config, "_attn_implementation", None)
    window = getattr(module.config, "sliding_window", None) or getattr(module.config, "local_attention", None) or 0
    size = module.get_input_embeddings().weight.shape[0]
    longest = min(window + 40, getattr(module.config, "max_position_embeddings", 512) - 8) if window else 12
    rows = [
        [5 + (7 * place * place + 3 * length) % (size - 5) for place in range(length)] for length in (longest, 7, 7, 3)
    ]
    try:
        expected = one_by_one(rows)
        module.set_attn_implementation(NAME)
        found = packed(rows)
        close = all(
            a.shape == b.shape and torch.allclose(a.float(), b.float(), rtol=0, atol=_TOLERANCE[a.dtype] * _scale(a))
            for a, b in zip(expected, found, strict=True)
        )
    except Exception:  # noqa: BLE001 -- whatever a model makes of packed rows, it is scored padded then
        close = False
    if not close and before is not None:
        module.set_attn_implementation(before)
    return close


def _scale(values: torch.Tensor) -> float:
    return max(1.0, float(values.abs().max()))


_TOLERANCE = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
