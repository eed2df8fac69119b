"""From the last hidden states of rows to vectors: one of the whole text, or one a token. Serving and training share
these functions; gradients flow through them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.torch.attention.ragged import integers
from rerank_core.backends.torch.attention.row_pooling import pool_packed
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding
from rerank_core.errors import NonFiniteScoreError
from rerank_core.spec.head import Pooling

__all__ = ["POOLED", "check_finite", "cosines", "one_vector_a_row", "pooled", "row_states", "stacked", "token_vectors"]

POOLED = "pooled"
"""Name of the part of an embedding that holds the vector of the whole text, ``[1, width]``."""


def row_states(hidden: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """``[total, width]``: the hidden states of rows end to end.

    Args:
        hidden: those of packed rows, ``[1, total, width]``, or of rows padded on the right, ``[rows, longest, width]``.
        lengths: tokens of each row.
    """
    if len(hidden) == 1:
        return hidden[0, : sum(lengths)]
    counts = integers(lengths, hidden.device)
    return hidden[torch.arange(hidden.shape[1], device=hidden.device)[None, :] < counts[:, None]]


def pooled(
    states: torch.Tensor,
    lengths: Sequence[int],
    pooling: Pooling,
    *,
    project: Any = None,
    normalize: bool = True,
) -> torch.Tensor:
    """One vector for each row, ``[rows, width]`` float32; zeros, without a gradient, for a row without tokens.

    Args:
        states: ``[total, width]``, the last hidden states of the rows end to end, special tokens included.
        lengths: tokens of each row.
        pooling: the ``mean`` over the tokens (as sentence-transformers' mean pooling), the first token (``cls``), or
            the ``last`` one.
        project: layers after the pooling, in a dtype of their own.
        normalize: scale each vector to length 1.
    """
    full = [row for row, length in enumerate(lengths) if length]
    # A mean is added up, and kept, in float32.
    read = states.float() if pooling == "mean" else states
    vectors = _projected(pool_packed(read, [lengths[row] for row in full], pooling), project).float()
    if normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    if len(full) == len(lengths):
        return vectors
    zeros = vectors.new_zeros(len(lengths), vectors.shape[1])
    return zeros.index_copy(0, integers(full, vectors.device), vectors)


def token_vectors(
    states: torch.Tensor,
    lengths: Sequence[int],
    positions: Sequence[Sequence[int]],
    *,
    project: Any = None,
    normalize: bool = True,
) -> tuple[torch.Tensor, list[int]]:
    """The vectors of some tokens of each row, ``[vectors, width]`` float32 end to end, and their number in each row. A
    row without any has one zero vector, without a gradient, whose similarity to every vector is 0.

    Args:
        states: ``[total, width]``, the last hidden states of the rows end to end.
        lengths: tokens of each row.
        positions: those of the tokens with a vector in each row, ascending.
        project, normalize: see `pooled`.
    """
    starts = itertools.accumulate(lengths, initial=0)
    index = [start + position for start, row in zip(starts, positions, strict=False) for position in row]
    if len(index) < len(states):
        states = states[integers(index, states.device)]
    vectors = _projected(states, project).float()
    if normalize:
        vectors = torch.nn.functional.normalize(vectors, dim=-1)
    counts = [len(row) for row in positions]
    if all(counts):
        return vectors, counts
    zero = vectors.new_zeros(1, vectors.shape[1])
    parts = torch.split(vectors, counts)
    return torch.cat([part if len(part) else zero for part in parts]), [max(1, count) for count in counts]


def _projected(states: torch.Tensor, project: Any) -> torch.Tensor:
    """The states after the layers, computed in the layers' dtype; under autocast states may have another one."""
    if project is None:
        return states
    weight = next(itertools.chain(project.parameters(), project.buffers()), None)
    result: torch.Tensor = project(states if weight is None else states.to(weight.dtype))
    return result


def cosines(query: Embedding, block: Block, rows: Sequence[int]) -> torch.Tensor:
    """``[rows]``: the products of a query's vector with those of some rows of a block; cosines of vectors of length
    1."""
    return block.part(POOLED, rows).all() @ query[POOLED][0]


def stacked(embeddings: Sequence[Embedding], part: str) -> Any:
    """``[rows, width]`` as a numpy array: a part that has one vector a row.

    Raises:
        NonFiniteScoreError: see `check_finite`.
    """
    joined = torch.cat([embedding[part] for embedding in embeddings]).cpu()
    check_finite(torch.isfinite(joined).all(dim=1).tolist())
    return joined.numpy()


def check_finite(texts: Sequence[bool]) -> None:
    """Refuse vectors with NaN or infinity, whose similarity to any other says nothing.

    Args:
        texts: whether all vectors of a text are finite, for each text. Copy the vectors to the CPU before the check: on
            a GPU each answer would wait for the device.

    Raises:
        NonFiniteScoreError: names the first text.
    """
    if not all(texts):
        raise NonFiniteScoreError(
            f"the model gave NaN or infinity for {texts.count(False)} of {len(texts)} texts, the first of them text "
            f"{texts.index(False)}; check its weights for NaN (and dtype: float16 overflows where float32 does not)"
        )


def one_vector_a_row(lengths: Mapping[str, torch.Tensor]) -> str | None:
    """Describe a fault in the number of pooled vectors of an index; None without one."""
    return "must give each row one vector of the whole text" if bool((lengths[POOLED] != 1).any()) else None
