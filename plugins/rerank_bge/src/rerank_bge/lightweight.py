"""bge-reranker-v2.5-gemma2-lightweight without its remote code: Gemma 2 with layer heads and token compression.

Before some layers neighbouring tokens of the document are averaged (*Matroyshka Re-Ranker*, Liu et al., 2025), but not
the tokens of the query and the prompt.
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
    """The factory of ``bge-llm-lightweight``."""
    directory = locate(spec, options)
    values = options.model
    runner = partial(CompressingRunner, layers=values["compress_layers"], ratio=values["compress_ratio"])
    base = model_folder(directory, spec, options)
    settings = read_json(base / "config.json")
    with reading(settings.file, inputs=False):
        head = Head.layers(settings.of("start_layer", int, 8), settings.of("layer_sep", int, 1))
        config = gemma2(base, capped=options.compat != "flagembedding")
    return decoder_of(
        replace(spec, head=head),
        options,
        directory,
        config=config,
        runner=runner,
        ordinal=values["head_index"] == "ordinal",
    )


def gemma2(directory: Path, *, capped: bool = True) -> Gemma2Config:
    """The checkpoint's config.json as a configuration of plain Gemma 2.

    Args:
        capped: apply the soft cap of attention logits in config.json. FlagEmbedding runs the model on SDPA, which
            ignores the cap.

    Raises:
        CheckpointError: a checkpoint without layer heads.
    """
    config = read_json(directory / "config.json")
    if not config.get("layer_wise"):
        raise CheckpointError(f"{directory}: layer_wise is {config.get('layer_wise')!r}; this reranker scores by layer")
    other = {
        "architectures",
        "auto_map",
        "model_type",
        "start_layer",
        "layer_sep",
        "layer_wise",
        "cache_implementation",
    }
    settings = {name: value for name, value in config.items() if name not in other}
    return Gemma2Config(**settings if capped else {**settings, "attn_logit_softcapping": None})


class CompressingRunner(LayerRunner):
    """Replaces every ``ratio`` tokens of the document by their mean before some layers; the last group may be smaller.

    Args:
        layers: numbers of layers run before each compression; 0 is ignored.
    """

    def __init__(self, module: Any, layers: Sequence[int], ratio: int) -> None:
        super().__init__(module)
        self.layers = frozenset(layers) - {0}
        self.ratio = ratio

    def before_layer(self, state: LayerState) -> None:
        if self.ratio > 1 and state.layer in self.layers:
            self._compress(state)

    def _compress(self, state: LayerState) -> None:
        old = state.packing
        sizes = [-(-(stop - start) // self.ratio) for start, stop in state.segments]
        lengths = [
            length - (stop - start) + size
            for (_, length, _), (start, stop), size in zip(old.rows, state.segments, sizes, strict=True)
        ]
        new = CausalPacking.of(
            [length for _, length in old.prefixes],
            [(prefix, length) for (_, _, prefix), length in zip(old.rows, lengths, strict=True)],
            old.last.device,
            allow_varlen=old.allow_varlen,
        )
        # The new position of each old token; tokens with the same new position are averaged.
        targets = [0] * old.total
        for (at, length), (to, _) in zip(old.prefixes, new.prefixes, strict=True):
            targets[at : at + length] = range(to, to + length)
        for (at, length, _), (to, _, _), (start, stop), size in zip(
            old.rows, new.rows, state.segments, sizes, strict=True
        ):
            document = [to + start + token // self.ratio for token in range(stop - start)]
            after = to + start + size
            targets[at : at + length] = [*range(to, to + start), *document, *range(after, after + length - stop)]
        index = torch.tensor(targets, device=state.hidden.device)
        sums = state.hidden.new_zeros(new.total, state.hidden.shape[-1]).index_add_(0, index, state.hidden[0])
        counts = torch.bincount(index, minlength=new.total).to(sums.dtype)
        state.hidden = (sums / counts[:, None])[None]
        state.packing, state.rotary = new, None
        state.segments = [(start, start + size) for (start, _), size in zip(state.segments, sizes, strict=True)]
