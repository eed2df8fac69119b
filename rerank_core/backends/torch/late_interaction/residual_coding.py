"""Vectors in a quarter of their bytes: the nearest of a few centroids, and the rest in int8.

After the residual compression of ColBERTv2 (Santhanam et al., NAACL 2022), with eight bits a value and a scale for each
vector in place of one or two bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Coding", "decode", "encode"]

_SAMPLE = 32_768
_ROUNDS = 8
_LEAST = 2**-24
"""The smallest number of float16 above zero: a scale may be subnormal."""


@dataclass(frozen=True, eq=False)
class Coding:
    """Attributes:
    centroids: ``[k, width]`` float32, k at most 256.
    codes: ``[vectors]`` uint8, the centroid of each.
    scales: ``[vectors]`` float16, what one step of its int8 values is worth.
    """

    centroids: torch.Tensor
    codes: torch.Tensor
    scales: torch.Tensor


def encode(vectors: torch.Tensor) -> tuple[torch.Tensor, Coding]:
    """``[n, width]`` float32 as int8 and what decodes it. The same vectors always give the same."""
    centroids = _centroids(vectors)
    codes = _nearest(vectors, centroids)
    rest = vectors - centroids[codes]
    scales = (rest.abs().amax(dim=1) / 127).half()
    # A scale that float16 rounded down would clip the largest value; the next one up does not.
    scales = torch.where(scales.float() * 127 < rest.abs().amax(dim=1), scales * (1 + 2**-10), scales)
    steps = rest / scales.float().clamp(min=_LEAST)[:, None]
    return steps.round().clamp(-127, 127).to(torch.int8), Coding(centroids, codes.to(torch.uint8), scales)


def decode(data: torch.Tensor, coding: Coding, where: slice | torch.Tensor) -> torch.Tensor:
    """Float32 values of ``data``, which lies at ``where`` in all that was encoded."""
    device = data.device
    codes, scales = coding.codes[where].to(device).int(), coding.scales[where].to(device).float()
    return torch.addcmul(coding.centroids.to(device)[codes], data.float(), scales[:, None])


def _centroids(vectors: torch.Tensor) -> torch.Tensor:
    """k-means (Lloyd) from evenly spaced vectors, so that nothing is drawn by chance."""
    sample = vectors[:: max(1, -(-len(vectors) // _SAMPLE))]
    count = min(256, len(sample) // 64 + 1)
    centroids = sample[:: max(1, len(sample) // count)][:count].clone()
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, sample)
        held = torch.bincount(nearest, minlength=len(centroids)).to(sums.dtype)[:, None]
        centroids = torch.where(held > 0, sums / held.clamp(min=1), centroids)
    return centroids


def _nearest(vectors: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    half = centroids.square().sum(dim=1) / 2
    return torch.cat([(some @ centroids.T - half).argmax(dim=1) for some in torch.split(vectors, 65536)])
