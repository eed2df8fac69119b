"""Packed causal attention: the rows of a query follow a prefix that is computed once for all of them.

``[prefix 0, its rows, prefix 1, its rows, ...]`` is one ``[1, total]`` row. A token attends to the prefix of its query
and to the earlier tokens of its own row. The scores are those of each row after its own copy of the prefix, without a
key-value cache and without copies of the prefix's hidden states.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from rerank_core.backends.torch.attention import varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.ragged import KeyIndex, concat_ranges, integers

__all__ = ["CausalPacking", "attend_rows", "capped"]


@dataclass(frozen=True)
class _Group:
    """Adjacent rows of one length after one prefix; or a prefix itself, with ``shared`` 0.

    Attributes:
        start: position of the first row.
        prefix, shared: position and length of the prefix.
    """

    start: int
    rows: int
    length: int
    prefix: int
    shared: int


@dataclass(frozen=True, eq=False)
class CausalPacking:
    """The positions of prefixes and rows in a packed batch.

    Attributes:
        prefixes: ``(start, length)`` of each query's shared tokens.
        rows: ``(start, length, prefix)`` of each row in the caller's order; ``prefix`` is an index into ``prefixes``.
        last: ``[rows]``, the positions of the rows' last tokens, whose hidden states are scored, in the caller's order.
        total: number of tokens of the batch.
        allow_varlen: use variable-length attention where it is supported.
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
        """The packing of rows after prefixes.

        Args:
            prefixes: the length of each prefix.
            rows: ``(prefix, length)`` of each row.
        """
        starts: list[tuple[int, int]] = []
        row_at: dict[int, tuple[int, int, int]] = {}
        position = 0
        for prefix, shared in enumerate(prefixes):
            starts.append((position, shared))
            position += shared
            for number, (owner, length) in enumerate(rows):
                if owner == prefix:
                    row_at[number] = (position, length, prefix)
                    position += length
        ordered = tuple(row_at[number] for number in range(len(rows)))
        last = integers([start + length - 1 for start, length, _ in ordered], device)
        return cls(tuple(starts), ordered, last, position, allow_varlen)

    @functools.cached_property
    def groups(self) -> tuple[_Group, ...]:
        """One group for each prefix, and one for each run of adjacent rows with the same length and the same prefix."""
        rows: list[_Group] = []
        for start, length, prefix in sorted(self.rows):
            last = rows[-1] if rows else None
            if (
                last is not None
                and last.length == length
                and (last.prefix, last.shared) == self.prefixes[prefix]
                and last.start + last.rows * length == start
            ):
                rows[-1] = _Group(last.start, last.rows + 1, length, last.prefix, last.shared)
            else:
                rows.append(_Group(start, 1, length, *self.prefixes[prefix]))
        return (*(_Group(start, 1, length, 0, 0) for start, length in self.prefixes if length), *rows)

    @functools.cached_property
    def positions(self) -> torch.Tensor:
        """``[1, total]`` position_ids; those of a row continue after its prefix."""
        pieces = [(start, 0, length) for start, length in self.prefixes if length]
        pieces += [(start, self.prefixes[prefix][1], length) for start, length, prefix in self.rows]
        pieces.sort()
        return concat_ranges([first for _, first, _ in pieces], [length for *_, length in pieces], self.last.device)[
            None
        ]

    # ------------------------------------------------------------------ attention
    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
        """``[1, total, heads, width]`` from ``[1, heads, total, width]``; key and value may have fewer heads."""
        if call.softcap is None and self._uses_varlen(query):
            return self._attend_varlen(query[0].transpose(0, 1), key[0], value[0], self._all_keys, call)[None]
        if call.dropout or torch.is_grad_enabled():
            return self._attend_in_training(query[0], key[0], value[0], call)[None]
        out = query.new_empty((query.shape[2], query.shape[1], value.shape[-1]))
        for group in self.groups:
            inside = slice(group.start, group.start + group.rows * group.length)
            q = _split_rows(query[0, :, inside], group)
            k, v = (_prefix_and_rows(part[0], group) for part in (key, value))
            attended = attend_rows(q, k, v, self._mask(group, call.sliding_window), call)
            out[inside].view(group.rows, group.length, *out.shape[1:]).copy_(attended.transpose(1, 2))
        return out[None]

    def _uses_varlen(self, query: torch.Tensor) -> bool:
        return self.allow_varlen and varlen.serves(query.device, query.dtype, query.shape[-1])

    def _attend_in_training(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> torch.Tensor:
        """`attend` with one split and one concatenation: the backward pass of a slice allocates the whole tensor, for
        every slice."""
        groups = sorted(self.groups, key=lambda group: group.start)
        sizes = [group.rows * group.length for group in groups]
        cut = [torch.split(part, sizes, dim=1) for part in (query, key, value)]
        index_of = {group.start: number for number, group in enumerate(groups)}
        out = []
        for number, group in enumerate(groups):
            q, k, v = (_split_rows(part[number], group) for part in cut)
            if group.shared:
                prefix = index_of[group.prefix]
                k, v = (
                    torch.cat([part[prefix].expand(group.rows, *part[prefix].shape), row], dim=2)
                    for part, row in ((cut[1], k), (cut[2], v))
                )
            attended = attend_rows(q, k, v, self._mask(group, call.sliding_window), call)
            out.append(attended.transpose(1, 2).flatten(0, 1))
        return torch.cat(out)

    def attend_last(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> torch.Tensor:
        """Attention of only the rows' last tokens: ``[rows, heads, width]`` from queries of that shape and keys and
        values ``[heads, total, width]``."""
        if call.softcap is None and self._uses_varlen(query):
            return self._attend_varlen(query, key, value, self._last_keys, call)
        out = torch.empty((*query.shape[:2], value.shape[-1]), dtype=query.dtype, device=query.device)
        number_of = {start: number for number, (start, _, _) in enumerate(self.rows)}
        for group in self.groups:
            starts = range(group.start, group.start + group.rows * group.length, group.length)
            if group.start not in number_of:
                continue
            numbers = integers([number_of[start] for start in starts], query.device)
            k, v = (_prefix_and_rows(part, group) for part in (key, value))
            # The last token attends to all of prefix and row, so a mask is needed only for a sliding window.
            mask = None if call.sliding_window is None else self._mask(group, call.sliding_window)[-1:]
            out[numbers] = attend_rows(query[numbers][:, :, None], k, v, mask, call)[:, :, 0]
        return out

    def _attend_varlen(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        keys: KeyIndex,
        call: AttentionCall,
    ) -> torch.Tensor:
        """All rows in one call of the variable-length kernel: ``[tokens, heads, width]`` from queries of that shape and
        keys and values ``[heads, total, width]``."""
        k, v = (part.transpose(0, 1)[keys.positions] for part in (key, value))
        return varlen.attend(
            query, k, v, call, cu_seqlens_q=keys.cu_seqlens_q, cu_seqlens_k=keys.cu_seqlens_k,
            longest=keys.longest, causal=True,
        )  # fmt: skip

    def _mask(self, group: _Group, sliding_window: int | None) -> torch.Tensor:
        """``[length, shared + length]``: True where a token of a row attends to a key. Kept for one batch, because
        it is large for long rows."""
        key = (group.length, group.shared, sliding_window)
        if key not in self._masks:
            positions = torch.arange(group.shared + group.length, device=self.last.device)
            back = positions[group.shared :, None] - positions[None]
            self._masks[key] = (back >= 0) if sliding_window is None else (back >= 0) & (back < sliding_window)
        return self._masks[key]

    @functools.cached_property
    def _masks(self) -> dict[tuple[int, int, int | None], torch.Tensor]:
        return {}

    @functools.cached_property
    def _all_keys(self) -> KeyIndex:
        pieces = [(start, length, 0, 0) for start, length in self.prefixes if length]
        pieces += [(start, length, *self.prefixes[prefix]) for start, length, prefix in self.rows]
        pieces.sort()
        return KeyIndex.of(pieces, [length for _, length, _, _ in pieces], self.last.device)

    @functools.cached_property
    def _last_keys(self) -> KeyIndex:
        pieces = [(start, length, *self.prefixes[prefix]) for start, length, prefix in self.rows]
        return KeyIndex.of(pieces, [1] * len(pieces), self.last.device)


def _split_rows(part: torch.Tensor, group: _Group) -> torch.Tensor:
    """``[rows, heads, length, width]`` from the tokens of a group's rows, ``[heads, rows * length, width]``."""
    return part.view(part.shape[0], group.rows, group.length, -1).transpose(0, 1)


def _prefix_and_rows(part: torch.Tensor, group: _Group) -> torch.Tensor:
    """Keys or values of prefix and row, ``[rows, heads, shared + length, width]``, from ``[heads, total, width]``."""
    rows = _split_rows(part[:, group.start : group.start + group.rows * group.length], group)
    if not group.shared:
        return rows
    shared = part[:, group.prefix : group.prefix + group.shared]
    return torch.cat([shared.expand(group.rows, *shared.shape), rows], dim=2)


def capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
    *,
    causal: bool,
) -> torch.Tensor:
    """Attention of padded rows with a soft cap, ``[rows, length, heads, width]``.

    Args:
        mask: transformers' mask for SDPA, ``[rows, 1, length, length]``; None where nothing is padded.
        causal: whether a token attends only to itself and to earlier tokens, where there is no mask.
    """
    if mask is not None:
        # Padding on the left attends to no key, which would give NaN; let it attend to all keys.
        mask = (mask | ~mask.any(-1, keepdim=True))[:, :, None]
    elif causal:
        mask = query.new_ones((query.shape[2], query.shape[2]), dtype=torch.bool).tril()
    return attend_rows(query, key, value, mask, call).transpose(1, 2).contiguous()


def attend_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    call: AttentionCall,
) -> torch.Tensor:
    """``[rows, heads, length, width]``; key and value may have fewer heads.

    Args:
        mask: True where a token attends to a key, or numbers to add to the products where there is no soft cap.
    """
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
    # Query heads that share a key head are stacked along the length: one product without a copy of the keys.
    stacked = query.reshape(rows, key.shape[1], shared * length, width)
    weights = torch.matmul(stacked, key.mT).mul_(call.scale_for(query) / call.softcap).tanh_().mul(call.softcap)
    if mask is not None:
        weights.view(rows, key.shape[1], shared, length, -1).masked_fill_(~mask, -torch.inf)
    weights = torch.nn.functional.dropout(weights.softmax(dim=-1, dtype=torch.float32), call.dropout).to(value.dtype)
    attended = torch.matmul(weights, value)
    return attended.view(rows, heads, length, -1)
