"""bge-reranker-v2.5-gemma2-lightweight without its remote code: Gemma 2, layer heads, and documents that get shorter.

Before some layers neighbouring tokens of the document are averaged (*Matroyshka Re-Ranker*, Liu et al., 2025); what is
shared by a query's rows, and the prompt, stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma2Config

from rerank_core import CheckpointError, Head, ModelSpec, Options
from rerank_core.backends.torch import (
    CausalPacking,
    DecoderScorer,
    LayerRunner,
    LayerState,
    decoder_of,
    locate,
    model_folder,
)
from rerank_core.spec import read_json, reading


def scorer(spec: ModelSpec, options: Options) -> DecoderScorer:
    """The factory that the spec names."""
    directory = locate(spec, options)
    own = options.model
    stack = partial(CompressingStack, layers=own["compress_layers"], ratio=own["compress_ratio"])
    described = model_folder(directory, spec, options)
    said = read_json(described / "config.json")
    with reading(said.file, inputs=False):
        head = Head.layers(said.of("start_layer", int, 8), said.of("layer_sep", int, 1))
        config = gemma2(described, capped=options.compat != "flagembedding")
    return decoder_of(
        replace(spec, head=head),
        options,
        directory,
        config=config,
        stack=stack,
        ordinal=own["head_index"] == "ordinal",
    )


def gemma2(directory: Path, *, capped: bool = True) -> Gemma2Config:
    """The checkpoint's configuration as plain Gemma 2.

    Args:
        capped: cap attention weights as config.json says. FlagEmbedding runs the model on SDPA, which leaves that out.

    Raises:
        CheckpointError: a checkpoint without a score at every layer.
    """
    config = read_json(directory / "config.json")
    if not config.get("layer_wise"):
        raise CheckpointError(f"{directory}: layer_wise is {config.get('layer_wise')!r}; this reranker scores by layer")
    own = {"architectures", "auto_map", "model_type", "start_layer", "layer_sep", "layer_wise", "cache_implementation"}
    kept = {name: value for name, value in config.items() if name not in own}
    return Gemma2Config(**kept if capped else {**kept, "attn_logit_softcapping": None})


class CompressingStack(LayerRunner):
    """Averages every ``ratio`` tokens of the document, the last ones fewer, before some of the layers.

    Args:
        layers: counts of layers run; before the first layer nothing is compressed.
    """

    def __init__(self, module: Any, layers: Sequence[int], ratio: int) -> None:
        super().__init__(module)
        self.at = frozenset(layers) - {0}
        self.ratio = ratio

    def before_layer(self, running: LayerState) -> None:
        if self.ratio > 1 and running.layer in self.at:
            self._compress(running)

    def _compress(self, running: LayerState) -> None:
        old = running.packing
        kept = [-(-(stop - start) // self.ratio) for start, stop in running.segments]
        lengths = [
            length - (stop - start) + count
            for (_, length, _), (start, stop), count in zip(old.rows, running.segments, kept, strict=True)
        ]
        new = CausalPacking.of(
            [length for _, length in old.prefixes],
            [(prefix, length) for (_, _, prefix), length in zip(old.rows, lengths, strict=True)],
            old.last.device,
            allow_varlen=old.allow_varlen,
        )
        goal = [0] * old.total
        for (at, length), (to, _) in zip(old.prefixes, new.prefixes, strict=True):
            goal[at : at + length] = range(to, to + length)
        for (at, length, _), (to, _, _), (start, stop), count in zip(
            old.rows, new.rows, running.segments, kept, strict=True
        ):
            inside = [to + start + place // self.ratio for place in range(stop - start)]
            after = to + start + count
            goal[at : at + length] = [*range(to, to + start), *inside, *range(after, after + length - stop)]
        index = torch.tensor(goal, device=running.hidden.device)
        sums = running.hidden.new_zeros(new.total, running.hidden.shape[-1]).index_add_(0, index, running.hidden[0])
        counts = torch.bincount(index, minlength=new.total).to(sums.dtype)
        running.hidden = (sums / counts[:, None])[None]
        running.packing, running.rotary = new, None
        running.segments = [(start, start + count) for (start, _), count in zip(running.segments, kept, strict=True)]
