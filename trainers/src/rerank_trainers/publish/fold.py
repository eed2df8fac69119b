"""Writes a calibration into the weights of a classifier."""

from __future__ import annotations

from typing import Any

import torch

from rerank_core import InputError
from rerank_core.measures import CalibrationMap

__all__ = ["fold"]


def fold(module: Any, calibration: CalibrationMap) -> None:
    """Write a scale and an offset into the last layer of a classifier, in place. Exact, and valid in every library that
    loads it.

    Raises:
        InputError: not exactly one linear layer with one output, or a layer without bias.
    """
    heads = [part for part in module.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 1]
    if len(heads) != 1:
        raise InputError(
            f"calibrate needs the one layer that makes the score, and this {type(module).__name__} has {len(heads)} "
            "layers with one output; publish with calibrate=False"
        )
    (head,) = heads
    if head.bias is None:
        raise InputError(
            f"calibrate: the last layer of this {type(module).__name__} has no bias that could take the offset "
            f"{calibration.offset:.4g}; publish with calibrate=False, and apply scale and offset to the scores"
        )
    with torch.no_grad():
        head.weight.mul_(calibration.scale)
        head.bias.mul_(calibration.scale).add_(calibration.offset)
