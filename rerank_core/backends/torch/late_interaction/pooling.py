"""Pools the hidden states of a text into one vector, and compares such vectors by their cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding
from rerank_core.spec.head import Pooling

__all__ = ["POOLED", "cosines", "one_vector_a_row", "pooled"]

POOLED = "pooled"
"""Name of the part of an embedding that holds the vector of the whole text, ``[1, width]``."""


def pooled(hidden: Sequence[torch.Tensor], pooling: Pooling) -> torch.Tensor:
    """One vector of length 1 for each row, ``[rows, width]`` float32; zeros for a row without tokens.

    Args:
        hidden: last hidden states ``[tokens, width]`` of each row, special tokens included.
        pooling: the ``mean`` over the tokens (as sentence-transformers' mean pooling), the first token (``cls``), or
            the ``last`` one.
    """
    vectors = []
    for states in hidden:
        if not len(states):
            vectors.append(states.new_zeros(states.shape[1], dtype=torch.float32))
        elif pooling == "mean":
            vectors.append(states.float().mean(dim=0))
        else:
            vectors.append(states[0 if pooling == "cls" else -1].float())
    return torch.nn.functional.normalize(torch.stack(vectors), dim=-1)


def cosines(query: Embedding, block: Block, rows: Sequence[int]) -> torch.Tensor:
    """``[rows]``: the cosine of a query's vector with those of some rows of a block."""
    return block.part(POOLED, rows).all() @ query[POOLED][0]


def one_vector_a_row(lengths: Mapping[str, torch.Tensor]) -> str | None:
    """Describe a fault in the number of pooled vectors of an index; None without one."""
    return "must give each row one vector of the whole text" if bool((lengths[POOLED] != 1).any()) else None
