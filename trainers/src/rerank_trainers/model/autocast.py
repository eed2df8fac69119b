"""Evaluation in float32, whatever training computes in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

__all__ = ["in_float32", "restore_forward"]


@contextlib.contextmanager
def in_float32(module: Any) -> Iterator[None]:
    """Without the autocast that accelerate puts around a module: scores are those of the saved weights, and no
    rounding makes ties of them."""
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
    """Take accelerate's autocast off a module for good."""
    if "_original_forward" in module.__dict__:
        # accelerate's own way goes on through transformers' decorators, which a forward needs.
        module.forward = module.__dict__.pop("_original_forward")
