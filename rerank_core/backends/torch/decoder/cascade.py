"""`stages_of`: the layers that each stage of a cascade scores, and how many documents go on to the next stage."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from rerank_core.errors import InputError

__all__ = ["stages_of"]


def stages_of(
    layers: Sequence[int], cascade: Mapping[int, int] | None, scored: Collection[int]
) -> tuple[Sequence[int], list[tuple[int, ...]]]:
    """The number of documents that each stage keeps, and the layers of each stage; one stage without a cascade.

    Args:
        layers: the layers that are asked for; the last one ranks.
        cascade: number of documents to keep, by the layer at which a stage ends.
        scored: layers that have a score.

    Raises:
        InputError: layers that cannot be stages.
    """
    if not cascade:
        return (), [tuple(sorted(set(layers)))]
    if layers[-1] != max(layers):
        raise InputError(f"cascade={dict(cascade)!r} ends at the deepest layer, so list it last: layer={layers!r}")
    ends = sorted(cascade)
    if any(layer not in scored or layer >= layers[-1] for layer in ends):
        raise InputError(
            f"cascade={dict(cascade)!r}: its layers must have a score and lie below the last, {layers[-1]}; there "
            f"are scores at {sorted(scored)!r}"
        )
    bounds = [0, *ends, layers[-1]]
    stages = [
        tuple(sorted({stop} | {layer for layer in layers if start < layer <= stop}))
        for start, stop in itertools.pairwise(bounds)
    ]
    return tuple(cascade[layer] for layer in ends), stages
