"""`DecoderScorer`: scores of causal language models, whose rows share a prefix and are read at their last token."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from rerank_core.backends.literal_frame import LiteralFrame, behind_prefixes, literal_frame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.attention.padding import left_padded
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.decoder import straight_layer
from rerank_core.backends.torch.decoder.cascade import stages_of
from rerank_core.backends.torch.decoder.heads import LabelHead, LayerHeads, ScoreHead
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner, LayerState
from rerank_core.backends.torch.execution import Execution
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec
from rerank_core.spec.template import RenderedTemplate, Wrap

__all__ = ["DecoderScorer"]

Parts: TypeAlias = list[tuple[list[int], LayerState]]
"""A batch between two stages of a cascade: groups of rows by position in the batch, each with its `LayerState`."""


class DecoderScorer(TorchScorer):
    """Computes scores from the hidden state of each row's last token.

    Args:
        score_head: which layers are scored, and how.
        runner: runs the layers one by one; by default a plain `LayerRunner`.
        options: values of the model's options: those named in the template, and ``cascade``.
    """

    layout: Layout
    wraps: tuple[Wrap, ...] = ("none",)
    # The prefix is computed once per batch: in a batch of 8,192 tokens it is under 1 % of the work. On two CPU cores
    # such a batch takes longer nevertheless (8 x 512, DL19: 13 % more time than 4,096 tokens). On an H200 with the
    # shape of Qwen3-0.6B, 8,192 tokens took 9 % more time than 65,536, and 32,768 took 1 % more.
    packed_budgets: Mapping[str, int] = {"cpu": 8192, "cuda": 32768}

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        score_head: ScoreHead,
        execution: Execution,
        runner: LayerRunner | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if spec.template.wrap not in self.wraps:
            raise InputError(f"model {spec.name!r}: a causal model takes Template(...), not {spec.template!r}")
        self.score_head = score_head
        self.runner = runner or LayerRunner(module)
        self.keep: Sequence[int] = ()
        self._stages: list[tuple[int, ...]] = [tuple(sorted(set(score_head.layers)))]
        self._whole = False
        self._straight = self._compiled = False
        super().__init__(module, tokenizer, spec, execution=execution)
        if (self._whole or not self.packed) and (
            len(set(score_head.layers)) > 1 or type(self.runner) is not LayerRunner
        ):
            raise CheckpointError(f"model {spec.name!r}: its layers cannot be run one by one with this transformers")
        self._values = {option.name: option.default for option in spec.options} | dict(options or {})
        self._literal: dict[str, tuple[int, ...]] = {}
        self._configure()

    def configured(self, options: Mapping[str, Any]) -> DecoderScorer:
        other = copy.copy(self)
        other._values = self._values | dict(options)
        other._configure()
        return other

    def _configure(self) -> None:
        wording = RenderedTemplate.of(self.spec.template, self.spec.options, self._values, self.tokenizer.bos)
        self._literal_text = {side: list(pieces) for side, pieces in wording.around.items()}
        self._frame = self.frame(wording)
        self.layout = self._frame.layout
        scored = getattr(self.score_head, "heads", {})
        self.keep, self._stages = stages_of(self.score_head.layers, self._values.get("cascade"), scored)

    def frame(self, wording: RenderedTemplate) -> LiteralFrame:
        """The template's tokens around those of the texts."""
        return literal_frame(self.tokenizer, wording, self._literal, shared=True)

    # ------------------------------------------------------------------ rows
    @property
    def parts(self) -> Mapping[str, int]:
        return self._frame.lengths

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(query, doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self._frame.query_row(query)

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self._frame.row(query, doc, start, stop, owner)

    # ------------------------------------------------------------------ scores
    def score(self, batch: Batch) -> Output:
        prefixes, rows, owners, segments = behind_prefixes(batch)
        if not self.packed or self._whole:
            (layer,) = set(self.score_head.layers)
            hidden = self._hidden(prefixes, rows, owners, packed=self.packed)
            return Output({self.score_head.name(layer): self.score_head.scores(hidden, layer).tolist()})
        with self.computing():
            layer_state = self.runner.start(prefixes, rows, owners, segments)
            scores = self._run(layer_state, 0)
        return Output(scores, [(list(range(len(rows))), layer_state)] if self.keep else None)

    def resume(self, state: Parts, rows: Sequence[int]) -> Output:
        position = {row: number for number, row in enumerate(rows)}
        scores: dict[str, list[float]] = {}
        parts: Parts = []
        for group, layer_state in state:
            chosen = [number for number, row in enumerate(group) if row in position]
            if not chosen:
                continue
            with self.computing():
                kept = self.runner.keep(layer_state, chosen)
                stage = next(n for n, layers in enumerate(self._stages) if layers[-1] > kept.layer)
                group_scores = self._run(kept, stage)
            positions = [position[group[number]] for number in chosen]
            for name, values in group_scores.items():
                column = scores.setdefault(name, [0.0] * len(rows))
                for number, value in zip(positions, values, strict=True):
                    column[number] = value
            parts.append((positions, kept))
        return Output(scores, parts)

    def merge_states(self, first: Parts | None, second: Parts | None, count: int) -> Parts | None:
        if first is None or second is None:
            return None
        return [*first, *(([row + count for row in group], layer_state) for group, layer_state in second)]

    def _run(self, state: LayerState, stage: int) -> dict[str, list[float]]:
        """Run the layers of a stage, and return scores by name; the one that ranks comes first."""
        scores = {}
        last = stage == len(self._stages) - 1
        for layer in self._stages[stage]:
            if last and layer == self._stages[stage][-1]:
                hidden = self.runner.finish(state, layer)
            else:
                self.runner.advance(state, layer)
                hidden = self.runner.read(state)
            scores[layer] = self.score_head.scores(hidden, layer).tolist()
        ranking = self.score_head.layers[-1] if last else self._stages[stage][-1]
        order = [ranking, *(layer for layer in scores if layer != ranking)]
        return {self._name(layer): scores[layer] for layer in order}

    def _name(self, layer: int) -> str:
        return f"layer_{layer}" if self.keep else self.score_head.name(layer)

    def _lengths(self, batch: Batch) -> list[int]:
        shared = _shared(batch)
        return [shared.get(row.query, 0) + len(row.ids) for row in batch.rows]

    def _tokens(self, batch: Batch) -> int:
        if self.packed:
            return sum(_shared(batch).values()) + sum(len(row.ids) for row in batch.rows)
        return len(batch.rows) * max(self._lengths(batch))

    # ------------------------------------------------------------------ training
    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """Inputs of the causal model around `module`, with the output layer applied to the last tokens only; or of the
        `LayeredModel` around it, whose rows are always packed."""
        prefixes, rows, owners, _ = behind_prefixes(batch)
        if isinstance(self.score_head, LayerHeads):
            ids, layout = self.runner.laid_out(prefixes, rows, owners)
            return {"input_ids": ids, "packing": layout}
        if packed:
            inputs, layout = self._whole_inputs(prefixes, rows, owners)
            return {**inputs, "logits_to_keep": layout.last}
        joined = [[*prefixes[owner], *row] for owner, row in zip(owners, rows, strict=True)]
        return {**left_padded(joined, filler=self.filler, device=self.device), "logits_to_keep": 1}

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        if not isinstance(self.score_head, LabelHead):
            return {"layers": output.logits.float()}
        logits: torch.Tensor = output.logits.flatten(0, 1)
        labels = logits[:, list(self.score_head.rows)].float()
        return {"scores": labels[:, 0] if labels.shape[1] == 1 else labels[:, 0] - labels[:, 1]}

    # ------------------------------------------------------------------ forward
    def _whole_inputs(
        self, prefixes: Mapping[int, Sequence[int]], rows: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> tuple[dict[str, Any], CausalPacking]:
        """Inputs of the module's own forward pass on packed rows, and their layout."""
        ids, layout = self.runner.laid_out(prefixes, rows, owners)
        inputs = {
            "input_ids": ids,
            "position_ids": layout.positions,
            "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=ids.device),
            "packing": layout,
            "use_cache": False,
        }
        return inputs, layout

    def _hidden(
        self,
        prefixes: Mapping[int, Sequence[int]],
        rows: Sequence[Sequence[int]],
        owners: Sequence[int],
        *,
        packed: bool,
    ) -> torch.Tensor:
        """Hidden states ``[rows, width]`` of the last tokens after all layers, from packed or padded rows."""
        if not packed:
            joined = [[*prefixes[owner], *row] for owner, row in zip(owners, rows, strict=True)]
            out = self.outputs(joined, [None] * len(joined), packed=False, use_cache=False).last_hidden_state
            ends = torch.tensor([len(row) - 1 for row in joined], device=out.device)
            padded: torch.Tensor = out[torch.arange(len(joined), device=out.device), ends]
            return padded
        with self.computing():
            if not self._whole:
                state = self.runner.start(prefixes, rows, owners, [(0, 0)] * len(rows))
                return self.runner.finish(state, len(self.runner.module.layers))
            inputs, layout = self._whole_inputs(prefixes, rows, owners)
            out = self.module(**inputs).last_hidden_state
            whole: torch.Tensor = out[0, layout.last]
            return whole

    def packing_variants(self) -> list[dict[str, Any]]:
        kernels = super().packing_variants()
        # For a live module only what a trainer calls is tried: the whole module, or its layers if they have heads.
        whole_module = (isinstance(self.score_head, LabelHead),) if self.execution.live else (False, True)
        family = getattr(self.module.config, "model_type", None)
        modules = {"_straight": False, "_compiled": False}
        ways = [modules]
        if family in straight_layer.FAMILIES and not self.execution.live:
            compiled = [True, False] if self.execution.compiled else [False]
            ways = [*({"_straight": True, "_compiled": one} for one in compiled), modules]
        return [
            {**settings, "_whole": whole, **way}
            for whole in whole_module
            for settings in kernels
            for way in ([modules] if whole else ways)
        ]

    def skip_unread(self) -> Callable[[], None] | None:
        if self._whole:
            return None
        self.runner.skip_unread = True
        return lambda: setattr(self.runner, "skip_unread", False)

    def can_pad(self) -> bool:
        if not super().can_pad():
            return False
        if not self.execution.live or not isinstance(self.score_head, LabelHead):
            return True
        # A trainer pads on the left.
        rows = packing.probe_rows(self.module)
        alone, together = ([[row] for row in rows], [rows])
        results = []
        with self.computing():
            for batches in (alone, together):
                inputs = [left_padded(batch, filler=self.filler, device=self.device) for batch in batches]
                results.append([row for batch in inputs for row in self.module(**batch).last_hidden_state[:, -1]])
        return packing.agree(results[0], results[1], self._dtype)

    def probe(self, *, packed: bool, others: bool = False, together: bool = False) -> list[torch.Tensor]:
        rows = packing.probe_rows(self.module)
        prefixes = {0: rows[2][:5], 1: rows[1][:3]}
        owners = [0, 1, 0, 0]
        if others:
            rows = packing.other_neighbours(rows)
        self.runner.allow_varlen = self._allow_varlen
        self.runner.straight, self.runner.compiled = self._straight, self._compiled
        if packed or together:
            return list(self._hidden(prefixes, rows, owners, packed=packed))
        alone = zip(rows, owners, strict=True)
        return [self._hidden(prefixes, [row], [owner], packed=False)[0] for row, owner in alone]


def _shared(batch: Batch) -> dict[int, int]:
    """The number of tokens of the prefix of each query with a row in the batch."""
    return {row.query: len(batch.queries[row.query].ids) for row in batch.rows if row.query in batch.queries}
