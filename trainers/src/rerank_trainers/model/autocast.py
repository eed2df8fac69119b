"""accelerate's autocast around a module: switched off for evaluation, removed after training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["forget_autocast", "in_float32", "restore_forward"]


@contextlib.contextmanager
def in_float32(module: Any) -> Iterator[None]:
    """Run the module in float32 inside the block: scores are those of the saved weights, and rounding makes no ties."""
    plain = module.__dict__.get("_original_forward")
    if plain is None:
        yield
        return
    wrapped, module.forward = module.forward, plain
    try:
        yield
    finally:
        module.forward = wrapped


def restore_forward(module: Any) -> None:
    """Remove accelerate's autocast from a module."""
    if "_original_forward" in module.__dict__:
        # accelerate's own function would unwrap transformers' decorators too, and the forward pass needs those.
        module.forward = module.__dict__.pop("_original_forward")


def forget_autocast(copied: Any) -> None:
    """Remove accelerate's autocast from a deep copy, whose wrapped ``forward`` still calls the original module."""
    for name in ("forward", "_original_forward"):
        vars(copied).pop(name, None)
