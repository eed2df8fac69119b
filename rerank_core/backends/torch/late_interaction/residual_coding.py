"""Compression of vectors to a quarter of their bytes: the nearest of at most 256 centroids plus a residual in int8.

This is the residual compression of ColBERTv2 (Santhanam et al., NAACL 2022) with eight bits a value and one scale a
vector, in place of one or two bits a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

__all__ = ["Coding", "decode", "encode"]

_SAMPLE = 32_768
_ROUNDS = 8
_LEAST = 2**-24
"""The smallest float16 above zero; a scale may be subnormal."""


@dataclass(frozen=True, eq=False)
class Coding:
    """What `decode` needs beside the int8 residuals.

    Attributes:
        centroids: ``[k, width]`` float32, k at most 256.
        codes: ``[vectors]`` uint8, the number of each vector's centroid.
        scales: ``[vectors]`` float16, by which the int8 residuals of each vector are multiplied.
    """

    centroids: torch.Tensor
    codes: torch.Tensor
    scales: torch.Tensor


def encode(vectors: torch.Tensor) -> tuple[torch.Tensor, Coding]:
    """Compress vectors ``[n, width]`` float32 to int8 residuals ``[n, width]`` and their `Coding`. Deterministic."""
    centroids = _centroids(vectors)
    codes = _nearest(vectors, centroids)
    residuals = vectors - centroids[codes]
    largest = residuals.abs().amax(dim=1)
    scales = (largest / 127).half()
    # A scale that float16 rounded down would clip the largest value; the next larger float16 does not.
    scales = torch.where(scales.float() * 127 < largest, scales * (1 + 2**-10), scales)
    steps = residuals / scales.float().clamp(min=_LEAST)[:, None]
    return steps.round().clamp(-127, 127).to(torch.int8), Coding(centroids, codes.to(torch.uint8), scales)


def decode(data: torch.Tensor, coding: Coding, where: slice | torch.Tensor) -> torch.Tensor:
    """The float32 vectors of int8 residuals.

    Args:
        data: ``[m, width]`` int8, some rows of what `encode` returned.
        where: the positions of those rows.
    """
    device = data.device
    codes, scales = coding.codes[where].to(device).int(), coding.scales[where].to(device).float()
    return torch.addcmul(coding.centroids.to(device)[codes], data.float(), scales[:, None])


def _centroids(vectors: torch.Tensor) -> torch.Tensor:
    """k-means (Lloyd's algorithm) that starts from evenly spaced vectors, so that the result is deterministic."""
    sample = vectors[:: max(1, -(-len(vectors) // _SAMPLE))]
    count = min(256, len(sample) // 64 + 1)
    centroids = sample[:: max(1, len(sample) // count)][:count].clone()
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, centroids)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, sample)
        counts = torch.bincount(nearest, minlength=len(centroids)).to(sums.dtype)[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids


def _nearest(vectors: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """``[n]``: the number of the centroid nearest to each vector."""
    half = centroids.square().sum(dim=1) / 2
    return torch.cat([(chunk @ centroids.T - half).argmax(dim=1) for chunk in torch.split(vectors, 65536)])
