"""`LayerRunner`: runs the layers of a transformers decoder one by one on a packed batch, so that it can stop at any
layer and continue later.

It works for a decoder of transformers 5 with the usual attributes: ``layers`` that take ``position_embeddings``,
``rotary_emb`` and ``norm``. At load the scorer compares its output with the module's own forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.attention.ragged import concat_ranges, concat_rows
from rerank_core.backends.torch.decoder import straight_layer

__all__ = ["LayerRunner", "LayerState"]


@dataclass
class LayerState:
    """A batch between two layers.

    Attributes:
        hidden: hidden states ``[1, total, width]`` after ``layer`` layers.
        packing: where the rows and their shared prefixes lie.
        segments: ``[start, stop)`` of the document's part within each row.
        layer: number of layers that were run.
        rotary: rotary embeddings of the positions; None until the next layer needs them.
    """

    hidden: torch.Tensor
    packing: CausalPacking
    segments: Sequence[tuple[int, int]]
    layer: int = 0
    rotary: Any = None


class LayerRunner:
    """Runs the layers of a decoder without its output layer.

    A subclass overrides `before_layer` to change the batch between two layers.

    Args:
        module: the decoder, such as transformers' ``LlamaModel``.

    Attributes:
        skip_unread: compute the last layer only for the tokens whose hidden states are read; the result is the same.
        straight: run layers as one function each (`straight_layer`) instead of their modules.
        compiled: let torch's compiler translate these functions.
        allow_varlen: allow the variable-length attention kernel.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.skip_unread = False
        self.straight = False
        self.compiled = False
        self.allow_varlen = True

    def laid_out(
        self, prefixes: Mapping[int, Sequence[int]], rows: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> tuple[torch.Tensor, CausalPacking]:
        """Token ids ``[1, total]`` of prefixes and rows, and their layout.

        Args:
            prefixes: token ids that several rows share, by a key.
            rows: token ids of each row after its prefix.
            owners: the key of each row's prefix.
        """
        numbers = {key: number for number, key in enumerate(prefixes)}
        packing = CausalPacking.of(
            [len(prefix) for prefix in prefixes.values()],
            [(numbers[owner], len(row)) for owner, row in zip(owners, rows, strict=True)],
            self.module.device,
            allow_varlen=self.allow_varlen,
        )
        pieces = [(start, prefix) for prefix, (start, _) in zip(prefixes.values(), packing.prefixes, strict=True)]
        pieces += [(start, row) for row, (start, _, _) in zip(rows, packing.rows, strict=True)]
        pieces.sort(key=lambda piece: piece[0])  # an empty prefix starts where its first row does
        return concat_rows((piece for _, piece in pieces), self.module.device), packing

    def start(
        self,
        prefixes: Mapping[int, Sequence[int]],
        rows: Sequence[Sequence[int]],
        owners: Sequence[int],
        segments: Sequence[tuple[int, int]],
    ) -> LayerState:
        """The state of a batch before the first layer; arguments as for `laid_out`."""
        return self.embed(*self.laid_out(prefixes, rows, owners), segments)

    def embed(self, ids: torch.Tensor, packing: CausalPacking, segments: Sequence[tuple[int, int]]) -> LayerState:
        """The state before the first layer of a batch from `laid_out`."""
        hidden = self.module.get_input_embeddings()(ids)
        multiplier = getattr(self.module, "embedding_multiplier", None)
        return LayerState(hidden if multiplier is None else hidden * multiplier, packing, segments)

    def advance(self, state: LayerState, until: int) -> None:
        """Run layers until ``until`` of them have run."""
        while state.layer < until:
            self.before_layer(state)
            layer = self.module.layers[state.layer]
            if self.straight:
                rotary, compiled = self._rotary(state), self.compiled
                state.hidden = straight_layer.run(layer, state.hidden, rotary, state.packing, compiled=compiled)
            else:
                out = layer(state.hidden, position_embeddings=self._rotary(state), **self._context(state))
                state.hidden = out[0] if isinstance(out, tuple) else out
            state.layer += 1

    def finish(self, state: LayerState, until: int) -> torch.Tensor:
        """Run the remaining layers, after which the state cannot be used: hidden states ``[rows, width]`` of the last
        tokens after layer ``until`` and the final norm."""
        if not self.skip_unread or state.layer >= until:
            self.advance(state, until)
            return self.read(state)
        self.advance(state, until - 1)
        self.before_layer(state)
        layer = self.module.layers[until - 1]
        rotary, compiled = self._rotary(state), self.straight and self.compiled
        hidden = straight_layer.last_tokens(layer, state.hidden, rotary, state.packing, compiled=compiled)
        normed: torch.Tensor = self.module.norm(hidden)
        return normed

    def read(self, state: LayerState) -> torch.Tensor:
        """Hidden states ``[rows, width]`` of the last tokens at the current layer, after the final norm."""
        normed: torch.Tensor = self.module.norm(state.hidden[0, state.packing.last])
        return normed

    def before_layer(self, state: LayerState) -> None:
        """Called before each layer. A subclass may change the state here, as token compression does."""

    def keep(self, state: LayerState, rows: Sequence[int]) -> LayerState:
        """The state with only these rows, in this order, and the prefixes that they need."""
        packing = state.packing
        used = sorted({packing.rows[row][2] for row in rows})
        kept = CausalPacking.of(
            [packing.prefixes[prefix][1] for prefix in used],
            [(used.index(packing.rows[row][2]), packing.rows[row][1]) for row in rows],
            packing.last.device,
            allow_varlen=packing.allow_varlen,
        )
        pairs = [(packing.prefixes[prefix], kept.prefixes[number]) for number, prefix in enumerate(used)]
        pairs += [(packing.rows[row][:2], kept.rows[number][:2]) for number, row in enumerate(rows)]
        pairs.sort(key=lambda pair: pair[1][0])
        index = concat_ranges([old for (old, _), _ in pairs], [length for (_, length), _ in pairs], state.hidden.device)
        segments = [state.segments[row] for row in rows]
        return LayerState(state.hidden[:, index], kept, segments, state.layer)

    def _context(self, state: LayerState) -> dict[str, Any]:
        return {"attention_mask": None, "past_key_values": None, "use_cache": False, "packing": state.packing}

    def _rotary(self, state: LayerState) -> Any:
        if state.rotary is None:
            state.rotary = self.module.rotary_emb(state.hidden, position_ids=state.packing.positions)
        return state.rotary
