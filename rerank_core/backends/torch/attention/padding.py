"""Rows of several lengths as one rectangle: on the right for scores, on the left where one column is read.

And which rows may share a pass at all: padding changes the scores of some models (FNet mixes all tokens, a convolution
reads beyond the last), and some rotary embeddings go by the longest row of a batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from rerank_core.backends.torch.attention import packing

if TYPE_CHECKING:
    from rerank_core.backends.torch.base import TorchScorer

__all__ = ["forget_long_rows", "neutral", "padded", "padded_on_the_left", "rotary_limit"]


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
        attended: how many tokens of each row are attended to, from the first; None for all.
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), filler, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    kinds = torch.zeros((len(rows), width), dtype=torch.long)
    for place, (row, kind, seen) in enumerate(zip(rows, types, attended, strict=True)):
        ids[place, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[place, : len(row) if seen is None else seen] = 1
        if kind is not None:
            kinds[place, : len(row)] = torch.tensor(kind, dtype=torch.long)
    made = {"input_ids": ids, "attention_mask": mask}
    if typed:
        made["token_type_ids"] = kinds
    return {name: tensor.to(device) for name, tensor in made.items()}


def padded_on_the_left(rows: Sequence[Sequence[int]], *, filler: int, device: torch.device) -> dict[str, Any]:
    """Inputs ``[rows, longest]`` of a causal model: one column holds the last tokens."""
    width = max(map(len, rows))
    ids = [[filler] * (width - len(row)) + list(row) for row in rows]
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    made = {"input_ids": torch.tensor(ids, device=device), "attention_mask": mask, "use_cache": False}
    # Where nothing is padded a model counts for itself; some take no positions.
    return made if bool(mask.all()) else {**made, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


def neutral(scorer: TorchScorer) -> bool:
    """Whether a few short rows give, padded together, what each gives alone."""
    module: Any = scorer.module
    together = scorer.probe(packed=False, together=True)
    if not packing.agree(scorer.probe(packed=False), together, module.dtype):
        return False
    if module.dtype == torch.float32 or hasattr(module, "score"):  # which finds its token by the padding's id
        return True
    # Below float32 a small influence of the padding is told from rounding by padding with something else.
    other = copy.copy(scorer)
    other.filler = (scorer.filler + 7) % module.get_input_embeddings().weight.shape[0]
    return packing.agree(together, other.probe(packed=False, together=True), torch.float32)


def rotary_limit(module: torch.nn.Module) -> float:
    """Tokens of a row above which the rotary embeddings of its whole batch change (LongRoPE, dynamic NTK)."""
    return min((limit for _, limit in _rotary(module)), default=math.inf)


def forget_long_rows(module: torch.nn.Module) -> None:
    """Dynamic NTK keeps what the longest row so far needed; the next long row must find its own."""
    for part, limit in _rotary(module):
        if hasattr(part, "max_seq_len_cached"):
            part.max_seq_len_cached = limit


def _rotary(module: torch.nn.Module) -> Iterator[tuple[Any, int]]:
    for part in module.modules():
        told: Any = getattr(part, "rope_type", None)
        kinds = list(told.values()) if isinstance(told, dict) else [told]
        if not any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in kinds):
            continue
        own: Any = part
        given = getattr(own.config, "rope_parameters", None) or {}
        for one in given.values() if isinstance(told, dict) else [given]:
            yield part, int(one.get("original_max_position_embeddings") or own.original_max_seq_len)
