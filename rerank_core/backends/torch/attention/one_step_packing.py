"""`OneStepPacking`: the rows of an encoder laid end to end, and one decoder token for each of them.

The decoder's tokens lie in one ``[1, rows]`` row. In self-attention each attends to itself, in cross-attention to the
tokens of its own encoder row. So the same forward pass of an encoder-decoder serves packed and padded rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.causal_packing import attend_rows
from rerank_core.backends.torch.attention.packing import Packing

__all__ = ["OneStepPacking"]


@dataclass(frozen=True, eq=False)
class OneStepPacking(Packing):
    """The row boundaries of a packed batch whose rows have one decoder token each.

    Attributes:
        window: an encoder token attends only to tokens less than this number of positions away, in the layers with a
            sliding window. None to follow the layers' own number.
    """

    window: int | None = None

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
        """``[1, tokens, heads, width]`` from queries ``[1, heads, tokens, width]``: all tokens of the encoder, or one
        token a row of the decoder. Key and value may have fewer heads."""
        heads, tokens = query.shape[1:3]
        if tokens == sum(self.lengths):
            if call.sliding_window is not None and self.window is not None:
                call = replace(call, sliding_window=self.window)
            return super().attend(query, key, value, call)
        if key.shape[2] == tokens:
            return value.repeat_interleave(heads // value.shape[1], dim=1).transpose(1, 2)
        out = []
        first = 0
        for start, rows, length in self.groups:
            q = query[0, :, first : first + rows].transpose(0, 1)[:, :, None]
            k, v = (
                part[0, :, start : start + rows * length].view(part.shape[1], rows, length, -1).transpose(0, 1)
                for part in (key, value)
            )
            out.append(attend_rows(q, k, v, None, call)[:, :, 0])
            first += rows
        return torch.cat(out)[None]
