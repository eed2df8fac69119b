"""`attend_first`: attention of one query a row over all tokens of that row."""

from __future__ import annotations

import torch

from rerank_core.backends.torch.attention import varlen
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.packing import Packing

__all__ = ["attend_first"]


def attend_first(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, packing: Packing, call: AttentionCall
) -> torch.Tensor:
    """``[rows, heads, width]``: one query per row over the keys and values of that row."""
    if packing.uses_varlen(query):
        one_query_each = torch.arange(len(query) + 1, dtype=torch.int32, device=query.device)
        longest = (1, max(packing.lengths))
        return varlen.attend(
            query, key, value, call, cu_seqlens_q=one_query_each, cu_seqlens_k=packing.cu_seqlens, longest=longest
        )
    queries = torch.split(query, [rows for _, rows, _ in packing.groups])
    # Split instead of sliced: the backward pass of a slice allocates the whole tensor, for every slice.
    keys_values = (torch.split(part, [rows * length for _, rows, length in packing.groups]) for part in (key, value))
    out = []
    for (_, rows, length), q, *parts in zip(packing.groups, queries, *keys_values, strict=True):
        k, v = (part.view(rows, length, *part.shape[1:]).transpose(1, 2) for part in parts)
        out.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[:, :, None], k, v, scale=call.scale, dropout_p=call.dropout
            )
        )
    return torch.cat(out)[:, :, 0]
