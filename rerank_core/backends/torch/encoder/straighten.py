"""`straighten`: replaces the layers of an encoder that `StraightLayer` computes equally."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch

from rerank_core.backends.torch.attention.packing import agree
from rerank_core.backends.torch.encoder.last_layer import FirstTokenLayer
from rerank_core.backends.torch.encoder.products import MakeProduct, Plain
from rerank_core.backends.torch.encoder.straight_layer import StraightLayer, is_bert_layer, release

__all__ = ["Replaced", "restore", "straighten"]


Replaced: TypeAlias = list[tuple[torch.nn.Module, str, torch.nn.Module]]
"""``(parent, name, layer)`` of each replaced layer, which has no weights."""


def straighten(module: torch.nn.Module, run: Callable[[], object], make: MakeProduct) -> Replaced:
    """Replace each layer whose results on a few rows a `StraightLayer` with torch's own products equals. A layer's
    weights are freed before those of the next are prepared.

    Args:
        run: computes the module for a few rows.
        make: how the products of the new layers are computed.

    Returns:
        the replaced layers, for `restore`.
    """
    # The layers themselves are not held, so that their weights are freed.
    places = [
        (parent, name)
        for parent in module.modules()
        if isinstance(parent, torch.nn.ModuleList)
        for name, child in parent.named_children()
        if is_bert_layer(_inside(child))
    ]
    if not places:  # a decoder; `run` would compute it for nothing
        return []
    with _recorded([parent.get_submodule(name) for parent, name in places]) as calls:
        run()
    replaced: Replaced = []
    for (parent, name), own in zip(places, calls, strict=True):
        child = parent.get_submodule(name)
        first_only = isinstance(child, FirstTokenLayer)
        if own and _equal(StraightLayer(_inside(child), Plain, first_only=first_only), own):
            setattr(parent, name, StraightLayer(_inside(child), make, first_only=first_only))
            release(_inside(child))
            replaced.append((parent, name, child))
        own.clear()
    return replaced


def restore(replaced: Replaced) -> None:
    """Undo `straighten`: the layers are where they were, with equal weights."""
    for parent, name, layer in replaced:
        straight: Any = parent.get_submodule(name)
        straight.restore(_inside(layer))
        setattr(parent, name, layer)


_Call = tuple[tuple[Any, ...], dict[str, Any], torch.Tensor]


def _inside(layer: Any) -> Any:
    return layer.layer if isinstance(layer, FirstTokenLayer) else layer


@contextmanager
def _recorded(layers: Sequence[torch.nn.Module]) -> Iterator[list[list[_Call]]]:
    """The calls of each layer inside: arguments and results."""
    calls: list[list[_Call]] = [[] for _ in layers]

    def keep(own: list[_Call]) -> Callable[..., None]:
        return lambda layer, args, kwargs, output: own.append((args, kwargs, output))

    handles = [
        layer.register_forward_hook(keep(own), with_kwargs=True) for layer, own in zip(layers, calls, strict=True)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _equal(straight: StraightLayer, calls: list[_Call]) -> bool:
    with torch.inference_mode():
        for args, kwargs, expected in calls:
            try:
                found = straight(*args, **kwargs)
            except Exception:  # noqa: BLE001 -- a layer that takes other arguments; it stays
                return False
            if not isinstance(expected, torch.Tensor) or not agree([expected], [found], expected.dtype):
                return False
    return True
