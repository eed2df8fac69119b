"""Causal rows on the packed layout, after a prefix that is laid down once for all rows of a query.

``[prefix 0, its rows, prefix 1, its rows, ...]`` is one ``[1, total]`` row. A token attends to its query's prefix and
to what stands before it in its own row, so scores are those of prefix and row joined, and the prefix is computed once:
no key-value cache, no copy of its hidden states.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rerank_core.backends.torch.attention import varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.ragged import KeyIndex, concat_ranges

__all__ = ["CausalPacking", "capped"]


@dataclass(frozen=True)
class _Group:
    """Neighbouring rows of one length behind one prefix (or prefixes, behind nothing)."""

    start: int
    rows: int
    length: int
    prefix: int
    shared: int


@dataclass(frozen=True, eq=False)
class CausalPacking:
    """Where the prefixes and rows of a batch lie.

    Attributes:
        prefixes: ``(start, length)`` of each query's shared tokens.
        rows: ``(start, length, prefix)`` of each row, ``prefix`` counting in ``prefixes``; in the caller's order.
        last: ``[rows]`` places of the rows' last tokens, which are read, in the caller's order.
        total: tokens of the batch.
    """

    prefixes: tuple[tuple[int, int], ...]
    rows: tuple[tuple[int, int, int], ...]
    last: torch.Tensor
    total: int
    allow_varlen: bool = True

    @classmethod
    def of(
        cls,
        prefixes: Sequence[int],
        rows: Sequence[tuple[int, int]],
        device: torch.device,
        *,
        allow_varlen: bool = True,
    ) -> CausalPacking:
        """The packing of rows behind prefixes of these lengths.

        Args:
            rows: ``(prefix, length)`` of each.
        """
        at: list[tuple[int, int]] = []
        placed: dict[int, tuple[int, int, int]] = {}
        place = 0
        for prefix, shared in enumerate(prefixes):
            at.append((place, shared))
            place += shared
            for number, (owner, length) in enumerate(rows):
                if owner == prefix:
                    placed[number] = (place, length, prefix)
                    place += length
        ordered = tuple(placed[number] for number in range(len(rows)))
        last = torch.tensor([start + length - 1 for start, length, _ in ordered], device=device)
        return cls(tuple(at), ordered, last, place, allow_varlen)

    @functools.cached_property
    def groups(self) -> tuple[_Group, ...]:
        """The prefixes, each alone, and the rows, as many at once as lie together and are alike."""
        found = [_Group(start, 1, length, 0, 0) for start, length in self.prefixes if length]
        for start, length, prefix in sorted(self.rows):
            before = found[-1] if found else None
            if (
                before is not None
                and before.shared
                and before.length == length
                and before.prefix == self.prefixes[prefix][0]
                and before.start + before.rows * length == start
            ):
                found[-1] = _Group(before.start, before.rows + 1, length, before.prefix, before.shared)
            else:
                found.append(_Group(start, 1, length, *self.prefixes[prefix]))
        return tuple(found)

    @functools.cached_property
    def positions(self) -> torch.Tensor:
        """``[1, total]``, the position of each token in prefix and row joined."""
        pieces = [(start, 0, length) for start, length in self.prefixes if length]
        pieces += [(start, self.prefixes[prefix][1], length) for start, length, prefix in self.rows]
        pieces.sort()
        return concat_ranges([first for _, first, _ in pieces], [length for *_, length in pieces], self.last.device)[
            None
        ]

    # ------------------------------------------------------------------ attention
    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
        """Attention over ``[1, heads, total, width]``, fewer heads in key and value; ``[1, total, heads, width]``."""
        if call.softcap is None and self._unbroken(query):
            return self._in_one(query[0].transpose(0, 1), key[0], value[0], self._all_gathered, call)[None]
        if call.dropout or torch.is_grad_enabled():
            return self._attend_in_training(query[0], key[0], value[0], call)[None]
        out = query.new_empty((query.shape[2], query.shape[1], value.shape[-1]))
        for group in self.groups:
            inside = slice(group.start, group.start + group.rows * group.length)
            q = _apart(query[0, :, inside], group)
            k, v = (_behind(part[0], group) for part in (key, value))
            attended = _attend(q, k, v, self._mask(group, call.sliding_window), call)
            out[inside].view(group.rows, group.length, *out.shape[1:]).copy_(attended.transpose(1, 2))
        return out[None]

    def _unbroken(self, query: torch.Tensor) -> bool:
        return self.allow_varlen and varlen.serves(query.device, query.dtype, query.shape[-1])

    def _attend_in_training(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> torch.Tensor:
        """`attend` in parts that are cut and joined once: a gradient through slices of a whole costs the whole for
        every slice."""
        groups = sorted(self.groups, key=lambda group: group.start)
        sizes = [group.rows * group.length for group in groups]
        cut = [torch.split(part, sizes, dim=1) for part in (query, key, value)]
        at = {group.start: number for number, group in enumerate(groups)}
        out = []
        for number, group in enumerate(groups):
            q, k, v = (_apart(part[number], group) for part in cut)
            if group.shared:
                before = at[group.prefix]
                k, v = (
                    torch.cat([part[before].expand(group.rows, *part[before].shape), own], dim=2)
                    for part, own in ((cut[1], k), (cut[2], v))
                )
            attended = _attend(q, k, v, self._mask(group, call.sliding_window), call)
            out.append(attended.transpose(1, 2).flatten(0, 1))
        return torch.cat(out)

    def attend_last(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> torch.Tensor:
        """``[rows, heads, width]``: queries of the read tokens alone, ``[rows, heads, width]``, over keys and values
        ``[heads, total, width]``."""
        if call.softcap is None and self._unbroken(query):
            return self._in_one(query, key, value, self._last_gathered, call)
        out = torch.empty((*query.shape[:2], value.shape[-1]), dtype=query.dtype, device=query.device)
        number_of = {start: number for number, (start, _, _) in enumerate(self.rows)}
        for group in self.groups:
            starts = range(group.start, group.start + group.rows * group.length, group.length)
            if group.start not in number_of:
                continue
            numbers = torch.tensor([number_of[start] for start in starts], device=query.device)
            k, v = (_behind(part, group) for part in (key, value))
            # The last token sees all of prefix and row, but for a window.
            mask = None if call.sliding_window is None else self._mask(group, call.sliding_window)[-1:]
            out[numbers] = _attend(query[numbers][:, :, None], k, v, mask, call)[:, :, 0]
        return out

    def _in_one(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        gathered: KeyIndex,
        call: AttentionCall,
    ) -> torch.Tensor:
        """``[tokens, heads, width]``, all rows at once, for keys and values ``[heads, total, width]``."""
        k, v = (part.transpose(0, 1)[gathered.places] for part in (key, value))
        return varlen.attend(
            query, k, v, call, cu_seqlens_q=gathered.cu_seqlens_q, cu_seqlens_k=gathered.cu_seqlens_k,
            longest=gathered.longest, causal=True,
        )  # fmt: skip

    def _mask(self, group: _Group, sliding_window: int | None) -> torch.Tensor:
        """``[length, shared + length]``: which keys a token of a row may see. Kept for the layers of this batch, and no
        longer: of long rows it is large."""
        key = (group.length, group.shared, sliding_window)
        if key not in self._masks:
            places = torch.arange(group.shared + group.length, device=self.last.device)
            back = places[group.shared :, None] - places[None]
            self._masks[key] = (back >= 0) if sliding_window is None else (back >= 0) & (back < sliding_window)
        return self._masks[key]

    @functools.cached_property
    def _masks(self) -> dict[tuple[int, int, int | None], torch.Tensor]:
        return {}

    @functools.cached_property
    def _all_gathered(self) -> KeyIndex:
        pieces = [(start, length, 0, 0) for start, length in self.prefixes if length]
        pieces += [(start, length, *self.prefixes[prefix]) for start, length, prefix in self.rows]
        pieces.sort()
        return KeyIndex.of(pieces, [length for _, length, _, _ in pieces], self.last.device)

    @functools.cached_property
    def _last_gathered(self) -> KeyIndex:
        pieces = [(start, length, *self.prefixes[prefix]) for start, length, prefix in self.rows]
        return KeyIndex.of(pieces, [1] * len(pieces), self.last.device)


def _apart(part: torch.Tensor, group: _Group) -> torch.Tensor:
    """``[rows, heads, length, width]`` of a group's own tokens, ``[heads, rows * length, width]``."""
    return part.view(part.shape[0], group.rows, group.length, -1).transpose(0, 1)


def _behind(part: torch.Tensor, group: _Group) -> torch.Tensor:
    """Keys or values ``[rows, heads, shared + length, width]`` of a group, from ``[heads, total, width]``."""
    own = _apart(part[:, group.start : group.start + group.rows * group.length], group)
    if not group.shared:
        return own
    shared = part[:, group.prefix : group.prefix + group.shared]
    return torch.cat([shared.expand(group.rows, *shared.shape), own], dim=2)


def capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
) -> torch.Tensor:
    """Attention of padded causal rows whose weights are capped, ``[rows, length, heads, width]``; ``mask`` is
    transformers' for SDPA, ``[rows, 1, length, length]``, None where nothing is padded."""
    whole = query.new_ones((query.shape[2], query.shape[2]), dtype=torch.bool).tril()
    # Padding before a row sees nothing, and no key at all would be NaN.
    mask = whole if mask is None else (mask | ~mask.any(-1, keepdim=True))[:, :, None]
    return _attend(query, key, value, mask, call).transpose(1, 2).contiguous()


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
) -> torch.Tensor:
    """``[rows, heads, length, width]`` for fewer heads in key and value."""
    rows, heads, length, width = query.shape
    shared = heads // key.shape[1]
    if call.softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            scale=call.scale_for(query),
            enable_gqa=shared > 1,
            dropout_p=call.dropout,
        )
    # The queries that share a head of keys lie under each other: one product, and no copy of the keys.
    stacked = query.reshape(rows, key.shape[1], shared * length, width)
    weights = torch.matmul(stacked, key.mT).mul_(call.scale_for(query) / call.softcap).tanh_().mul(call.softcap)
    if mask is not None:
        weights.view(rows, key.shape[1], shared, length, -1).masked_fill_(~mask, -torch.inf)
    weights = torch.nn.functional.dropout(weights.softmax(dim=-1, dtype=torch.float32), call.dropout).to(value.dtype)
    attended = torch.matmul(weights, value)
    return attended.view(rows, heads, length, -1)
