"""The layers of a transformers decoder, run one by one on a packed batch: up to any layer, and on from there.

Any decoder of transformers 5 that keeps to its usual shape will do: ``layers`` that take ``position_embeddings``,
``rotary_emb``, ``norm``. The scorer compares what comes out with the module's own forward pass when it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.attention.ragged import concat_ranges, concat_rows

__all__ = ["LayerRunner", "LayerState"]


@dataclass
class LayerState:
    """A batch between two layers.

    Attributes:
        hidden: ``[1, total, width]`` after ``layer`` layers.
        segments: ``[start, stop)`` of the document's part in each row.
        layer: how many layers were run.
    """

    hidden: torch.Tensor
    packing: CausalPacking
    segments: Sequence[tuple[int, int]]
    layer: int = 0
    rotary: Any = None


class LayerRunner:
    """A decoder without its head.

    Attributes:
        shortened: compute the last layer for the tokens that are read alone (exact).
        allow_varlen: variable-length attention where it serves.
    """

    def __init__(self, module: Any) -> None:
        self.module = module
        self.shortened = False
        self.allow_varlen = True

    def laid_out(
        self, prefixes: Mapping[int, Sequence[int]], rows: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> tuple[torch.Tensor, CausalPacking]:
        """Ids ``[1, total]`` and where the rows lie in them.

        Args:
            owners: the key of each row's prefix.
        """
        place = {key: number for number, key in enumerate(prefixes)}
        packing = CausalPacking.of(
            [len(prefix) for prefix in prefixes.values()],
            [(place[owner], len(row)) for owner, row in zip(owners, rows, strict=True)],
            self.module.device,
            allow_varlen=self.allow_varlen,
        )
        pieces = [(start, prefix) for prefix, (start, _) in zip(prefixes.values(), packing.prefixes, strict=True)]
        pieces += [(start, row) for row, (start, _, _) in zip(rows, packing.rows, strict=True)]
        pieces.sort(key=lambda piece: piece[0])  # nothing of an empty prefix lies where its first row begins
        return concat_rows((piece for _, piece in pieces), self.module.device), packing

    def start(
        self,
        prefixes: Mapping[int, Sequence[int]],
        rows: Sequence[Sequence[int]],
        owners: Sequence[int],
        segments: Sequence[tuple[int, int]],
    ) -> LayerState:
        """A batch before the first layer; see `laid_out`."""
        return self.embed(*self.laid_out(prefixes, rows, owners), segments)

    def embed(self, ids: torch.Tensor, packing: CausalPacking, segments: Sequence[tuple[int, int]]) -> LayerState:
        """A batch that is `laid_out`, before the first layer."""
        hidden = self.module.get_input_embeddings()(ids)
        multiplier = getattr(self.module, "embedding_multiplier", None)
        return LayerState(hidden if multiplier is None else hidden * multiplier, packing, segments)

    def advance(self, running: LayerState, until: int) -> None:
        """Run layers up to ``until`` of them are done."""
        while running.layer < until:
            self.before_layer(running)
            out = self.module.layers[running.layer](
                running.hidden, position_embeddings=self._rotary(running), **self._context(running)
            )
            running.hidden = out[0] if isinstance(out, tuple) else out
            running.layer += 1

    def finish(self, running: LayerState, until: int) -> torch.Tensor:
        """Run layers up to ``until`` for good: ``[rows, width]`` of the read tokens, after the final norm."""
        if not self.shortened or running.layer >= until:
            self.advance(running, until)
            return self.read(running)
        self.advance(running, until - 1)
        self.before_layer(running)
        layer = self.module.layers[until - 1]
        hidden: torch.Tensor = _last_tokens(layer, running.hidden, self._rotary(running), running.packing)
        normed: torch.Tensor = self.module.norm(hidden)
        return normed

    def read(self, running: LayerState) -> torch.Tensor:
        """``[rows, width]`` of the read tokens where the batch stands, after the final norm."""
        normed: torch.Tensor = self.module.norm(running.hidden[0, running.packing.last])
        return normed

    def before_layer(self, running: LayerState) -> None:
        """A place to change a batch before its next layer (token compression)."""

    def keep(self, running: LayerState, rows: Sequence[int]) -> LayerState:
        """The batch with some of its rows, in this order, and the prefixes they need."""
        packing = running.packing
        used = sorted({packing.rows[row][2] for row in rows})
        fresh = CausalPacking.of(
            [packing.prefixes[prefix][1] for prefix in used],
            [(used.index(packing.rows[row][2]), packing.rows[row][1]) for row in rows],
            packing.last.device,
            allow_varlen=packing.allow_varlen,
        )
        pairs = [(packing.prefixes[prefix], fresh.prefixes[number]) for number, prefix in enumerate(used)]
        pairs += [(packing.rows[row][:2], fresh.rows[number][:2]) for number, row in enumerate(rows)]
        pairs.sort(key=lambda pair: pair[1][0])
        index = concat_ranges(
            [old for (old, _), _ in pairs], [length for (_, length), _ in pairs], running.hidden.device
        )
        segments = [running.segments[row] for row in rows]
        return LayerState(running.hidden[:, index], fresh, segments, running.layer)

    def _context(self, running: LayerState) -> dict[str, Any]:
        return {"attention_mask": None, "past_key_values": None, "use_cache": False, "packing": running.packing}

    def _rotary(self, running: LayerState) -> Any:
        if running.rotary is None:
            running.rotary = self.module.rotary_emb(running.hidden, position_ids=running.packing.positions)
        return running.rotary


def _last_tokens(layer: Any, hidden: torch.Tensor, rotary: Any, packing: CausalPacking) -> Any:
    """A decoder layer for the read tokens alone, ``[rows, width]``: keys and values are still those of every token."""
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden[0])
    query = attention.q_proj(normed[packing.last]).unflatten(-1, (-1, attention.head_dim))
    key, value = (part(normed).unflatten(-1, (-1, attention.head_dim)) for part in (attention.k_proj, attention.v_proj))
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    cos, sin = (part[0, :, None] for part in rotary)
    query = _rotated(query, cos[packing.last], sin[packing.last])
    key = _rotated(key, cos, sin)
    sliding_window = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))
    softcap = getattr(attention, "attn_logit_softcapping", None)
    call = AttentionCall(attention.scaling, sliding_window, softcap)
    attended = packing.attend_last(query, key.transpose(0, 1), value.transpose(0, 1), call)
    read, multiplier = hidden[0, packing.last], getattr(layer, "residual_multiplier", 1.0)
    out = attention.o_proj(attended.flatten(1))
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 norms what each block gives, too
        read = read + layer.post_attention_layernorm(out)
        more: torch.Tensor = layer.post_feedforward_layernorm(layer.mlp(layer.pre_feedforward_layernorm(read)))
        return read + more
    read = read + out * multiplier
    more = layer.mlp(layer.post_attention_layernorm(read))
    return read + more * multiplier


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions in two halves (Su et al., 2021, as GPT-NeoX lays them out)."""
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin
