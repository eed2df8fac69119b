"""Padded batches: rows of several lengths as one rectangle, and checks that padding does not change the scores.

Rows are padded on the right; for training a causal model they are padded on the left, so that one column holds the last
tokens. Padding changes the scores of some models (FNet mixes all tokens, a convolution reads past the last token), and
some rotary embeddings depend on the longest row of a batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.attention.ragged import sent

if TYPE_CHECKING:
    from rerank_core.backends.torch.base import TorchScorer

__all__ = ["left_padded", "padded", "padding_keeps_scores", "reset_rotary_cache", "rotary_limit"]


def padded(
    rows: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None],
    attended: Sequence[int | None],
    *,
    filler: int,
    typed: bool,
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """Model inputs ``[rows, longest]``.

    Args:
        attended: number of leading tokens of each row that are attended to; None for all.
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), filler, dtype=torch.long, device="cpu")
    mask = torch.zeros((len(rows), width), dtype=torch.long, device="cpu")
    type_ids = torch.zeros((len(rows), width), dtype=torch.long, device="cpu")
    for i, (row, row_types, count) in enumerate(zip(rows, types, attended, strict=True)):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long, device="cpu")
        mask[i, : len(row) if count is None else count] = 1
        if row_types is not None:
            type_ids[i, : len(row)] = torch.tensor(row_types, dtype=torch.long, device="cpu")
    kwargs = {"input_ids": ids, "attention_mask": mask}
    if typed:
        kwargs["token_type_ids"] = type_ids
    return {name: sent(tensor, device) for name, tensor in kwargs.items()}


def left_padded(rows: Sequence[Sequence[int]], *, filler: int, device: torch.device) -> dict[str, Any]:
    """Inputs ``[rows, longest]`` of a causal model, padded on the left: the last column holds the rows' last tokens."""
    width = max(map(len, rows))
    ids = [[filler] * (width - len(row)) + list(row) for row in rows]
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    kwargs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": mask, "use_cache": False}
    # Some models take no position_ids; without padding they are not needed.
    return kwargs if bool(mask.all()) else {**kwargs, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def padding_keeps_scores(scorer: TorchScorer) -> bool:
    """Whether a few short rows have the same scores in one padded batch as in batches of one row."""
    module: Any = scorer.module
    together = scorer.probe(packed=False, together=True)
    if not packing.agree(scorer.probe(packed=False), together, module.dtype):
        return False
    # A decoder classifier (with a ``score`` layer) finds its last token by the padding id, so that id cannot change.
    if module.dtype == torch.float32 or hasattr(module, "score"):
        return True
    # In half precision, padding with another token distinguishes a small influence of the padding from rounding.
    other = copy.copy(scorer)
    other.filler = (scorer.filler + 7) % packing.embedding_rows(module)
    return packing.agree(together, other.probe(packed=False, together=True), torch.float32)


def rotary_limit(module: torch.nn.Module) -> float:
    """The row length above which a row changes the rotary embeddings of its whole batch (LongRoPE, dynamic NTK)."""
    return min((limit for _, limit in _rotary(module)), default=math.inf)


def reset_rotary_cache(module: torch.nn.Module) -> None:
    """Reset dynamic NTK, which keeps the frequencies of the longest row so far: a row's score must not depend on rows
    scored before it."""
    for part, limit in _rotary(module):
        if hasattr(part, "max_seq_len_cached"):
            part.max_seq_len_cached = limit


def _rotary(module: torch.nn.Module) -> Iterator[tuple[Any, int]]:
    for part in module.modules():
        types: Any = getattr(part, "rope_type", None)
        kinds = list(types.values()) if isinstance(types, dict) else [types]
        if not any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in kinds):
            continue
        rotary: Any = part
        parameters = getattr(rotary.config, "rope_parameters", None) or {}
        for values in parameters.values() if isinstance(types, dict) else [parameters]:
            yield part, int(values.get("original_max_position_embeddings") or rotary.original_max_seq_len)
