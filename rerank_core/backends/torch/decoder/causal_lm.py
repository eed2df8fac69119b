"""Causal language models: rows continue what their query shares, and the last token of each is read."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from rerank_core.backends.frames import PrefixFrame, behind_prefixes
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.attention.padding import left_padded
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.decoder.heads import LabelHead, LayerHeads, ScoreHead
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner, LayerState
from rerank_core.backends.torch.execution import Execution
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Batch, Layout, Output, QueryRow, Row, Tokens
from rerank_core.spec import ModelSpec
from rerank_core.spec.template import RenderedTemplate

__all__ = ["DecoderScorer"]

Parts: TypeAlias = list[tuple[list[int], LayerState]]
"""A batch between two stages of a cascade: positions of rows, and the layers' state of those."""


class DecoderScorer(TorchScorer):
    """Score = what the reader makes of the last token, after the layers it asks for.

    Args:
        reader: which layers are read, and how.
        stack: runs the layers one by one; by default a plain `LayerRunner`.
        options: the model's options; those that stand in the template, and ``cascade``.
    """

    layout: Layout = "prefix"
    # The prefix is computed once a batch, so a batch is wide: at 8,192 tokens it is under 1 % of the work. On two CPU
    # cores that costs more than it saves (8 x 512, DL19: 13 % more time than at 4,096). On an H200, Qwen3-0.6B's shape,
    # 8,192 took 9 % more than 65,536 and 32,768 1 %.
    packed_budgets: Mapping[str, int] = {"cpu": 8192, "cuda": 32768}

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        score_head: ScoreHead,
        execution: Execution,
        stack: LayerRunner | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if spec.template.wrap != "none":
            raise InputError(f"model {spec.name!r}: a causal model takes Template(...), not {spec.template!r}")
        self.score_head = score_head
        self.stack = stack or LayerRunner(module)
        self.keep: Sequence[int] = ()
        self._stages: list[tuple[int, ...]] = [tuple(sorted(set(score_head.layers)))]
        self._whole = False
        super().__init__(module, tokenizer, spec, execution=execution)
        if (self._whole or not self.packed) and (
            len(set(score_head.layers)) > 1 or type(self.stack) is not LayerRunner
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
        ids = {}
        for name, pieces in wording.literal.items():
            found: list[int] = []
            for text, own in pieces:
                if own and text not in self._literal:
                    self._literal[text] = self.tokenizer.literal(text)
                # What an option says is text, whatever it spells.
                found += self._literal[text] if own else self.tokenizer.encode([text])[0].ids
            ids[name] = tuple(found)
        self._frame = PrefixFrame(**ids)
        self._plan_cascade(self._values.get("cascade"))

    def _plan_cascade(self, cascade: Mapping[int, int] | None) -> None:
        """Settle which layers each stage reads, and how many documents go on after it.

        Raises:
            InputError: layers that cannot be stages, or counts that grow.
        """
        asked = self.score_head.layers
        if not cascade:
            self.keep, self._stages = (), [tuple(sorted(set(asked)))]
            return
        if asked[-1] != max(asked):
            raise InputError(f"cascade={dict(cascade)!r} ends at the deepest layer, so list it last: layer={asked!r}")
        ends = sorted(cascade)
        known = getattr(self.score_head, "heads", {})
        if any(layer not in known or layer >= asked[-1] for layer in ends):
            raise InputError(
                f"cascade={dict(cascade)!r}: its layers must have a score and lie below the last, {asked[-1]}; there "
                f"are scores at {sorted(known)!r}"
            )
        self.keep = tuple(cascade[layer] for layer in ends)
        bounds = [0, *ends, asked[-1]]
        self._stages = [
            tuple(sorted({stop} | {layer for layer in asked if start < layer <= stop}))
            for start, stop in itertools.pairwise(bounds)
        ]

    # ------------------------------------------------------------------ rows
    @property
    def parts(self) -> Mapping[str, int]:
        frame = self._frame
        return {"before": len(frame.before), "between": len(frame.between), "after": len(frame.after)}

    def overhead(self, query: Tokens, doc: Tokens) -> int:
        return self._frame.overhead(doc)

    def query_row(self, query: Tokens) -> QueryRow | None:
        return self._frame.query_row(query)

    def row(self, query: Tokens, doc: Tokens, start: int, stop: int, owner: tuple[int, int, int]) -> Row:
        return self._frame.row(doc, start, stop, owner)

    # ------------------------------------------------------------------ scores
    def score(self, batch: Batch) -> Output:
        prefixes, rows, owners, segments = behind_prefixes(batch)
        if not self.packed or self._whole:
            (layer,) = set(self.score_head.layers)
            hidden = self._hidden(prefixes, rows, owners, packed=self.packed)
            return Output({self.score_head.name(layer): self.score_head.scores(hidden, layer).tolist()})
        with torch.inference_mode(), self._evaluating():
            running = self.stack.start(prefixes, rows, owners, segments)
            scores = self._run(running, 0)
        return Output(scores, [(list(range(len(rows))), running)] if self.keep else None)

    def resume(self, state: Parts, rows: Sequence[int]) -> Output:
        place = {row: number for number, row in enumerate(rows)}
        scores: dict[str, list[float]] = {}
        parts: Parts = []
        for held, running in state:
            own = [number for number, row in enumerate(held) if row in place]
            if not own:
                continue
            with torch.inference_mode(), self._evaluating():
                kept = self.stack.keep(running, own)
                stage = next(n for n, layers in enumerate(self._stages) if layers[-1] > kept.layer)
                found = self._run(kept, stage)
            where = [place[held[number]] for number in own]
            for name, values in found.items():
                column = scores.setdefault(name, [0.0] * len(rows))
                for number, value in zip(where, values, strict=True):
                    column[number] = value
            parts.append((where, kept))
        return Output(scores, parts)

    def merge_states(self, first: Parts | None, second: Parts | None, count: int) -> Parts | None:
        if first is None or second is None:
            return None
        return [*first, *(([row + count for row in held], running) for held, running in second)]

    def _run(self, running: LayerState, stage: int) -> dict[str, list[float]]:
        """Run a stage's layers; the score that ranks comes first."""
        found = {}
        last = stage == len(self._stages) - 1
        for layer in self._stages[stage]:
            if last and layer == self._stages[stage][-1]:
                hidden = self.stack.finish(running, layer)
            else:
                self.stack.advance(running, layer)
                hidden = self.stack.read(running)
            found[layer] = self.score_head.scores(hidden, layer).tolist()
        ranking = self.score_head.layers[-1] if last else self._stages[stage][-1]
        order = [ranking, *(layer for layer in found if layer != ranking)]
        return {self._name(layer): found[layer] for layer in order}

    def _name(self, layer: int) -> str:
        return f"layer_{layer}" if self.keep else self.score_head.name(layer)

    def _lengths(self, batch: Batch) -> list[int]:
        return [len(batch.queries[row.query].ids) + len(row.ids) for row in batch.rows]

    def _tokens(self, batch: Batch) -> int:
        shared = {row.query: len(batch.queries[row.query].ids) for row in batch.rows}
        if self.packed:
            return sum(shared.values()) + sum(len(row.ids) for row in batch.rows)
        return len(batch.rows) * max(self._lengths(batch))

    # ------------------------------------------------------------------ training
    def forward_inputs(self, batch: Batch, *, packed: bool) -> dict[str, Any]:
        """For the causal model around `module`: only the read tokens go through the output layer; or for the
        `LayeredModel` around it, whose rows are always packed."""
        prefixes, rows, owners, _ = behind_prefixes(batch)
        if isinstance(self.score_head, LayerHeads):
            laid, layout = self.stack.laid_out(prefixes, rows, owners)
            return {"input_ids": laid, "packing": layout}
        if packed:
            made, layout = self._whole_inputs(prefixes, rows, owners)
            return {**made, "logits_to_keep": layout.last}
        joined = [[*prefixes[owner], *row] for owner, row in zip(owners, rows, strict=True)]
        return {**left_padded(joined, filler=self.filler, device=self.device), "logits_to_keep": 1}

    def scores_from(self, output: Any) -> torch.Tensor:
        if not isinstance(self.score_head, LabelHead):
            layered: torch.Tensor = output.logits.float()
            return layered
        logits: torch.Tensor = output.logits.flatten(0, 1)
        found = logits[:, list(self.score_head.rows)].float()
        return found[:, 0] if found.shape[1] == 1 else found[:, 0] - found[:, 1]

    # ------------------------------------------------------------------ forward
    def _whole_inputs(
        self, prefixes: Mapping[int, Sequence[int]], rows: Sequence[Sequence[int]], owners: Sequence[int]
    ) -> tuple[dict[str, Any], CausalPacking]:
        ids, layout = self.stack.laid_out(prefixes, rows, owners)
        made = {
            "input_ids": ids,
            "position_ids": layout.positions,
            "attention_mask": torch.ones((1, 1, 1, 1), dtype=torch.bool, device=ids.device),
            "packing": layout,
            "use_cache": False,
        }
        return made, layout

    def _hidden(
        self,
        prefixes: Mapping[int, Sequence[int]],
        rows: Sequence[Sequence[int]],
        owners: Sequence[int],
        *,
        packed: bool,
    ) -> torch.Tensor:
        """``[rows, width]`` of the last tokens after all layers, in the packed layout or padded."""
        if not packed:
            joined = [[*prefixes[owner], *row] for owner, row in zip(owners, rows, strict=True)]
            out = self.outputs(joined, [None] * len(joined), packed=False, use_cache=False).last_hidden_state
            ends = torch.tensor([len(row) - 1 for row in joined], device=out.device)
            padded: torch.Tensor = out[torch.arange(len(joined), device=out.device), ends]
            return padded
        with torch.inference_mode(), self._evaluating():
            if not self._whole:
                running = self.stack.start(prefixes, rows, owners, [(0, 0)] * len(rows))
                return self.stack.finish(running, len(self.stack.module.layers))
            made, layout = self._whole_inputs(prefixes, rows, owners)
            out = self.module(**made).last_hidden_state
            whole: torch.Tensor = out[0, layout.last]
            return whole

    def packing_variants(self) -> list[dict[str, Any]]:
        kernels = super().packing_variants()
        # What is tried of a live module is what a trainer calls: the whole of it, or its layers where they have heads.
        ways = (isinstance(self.score_head, LabelHead),) if self.execution.live else (False, True)
        return [{**settings, "_whole": whole} for whole in ways for settings in kernels]

    def skip_unread(self) -> Callable[[], None] | None:
        if self._whole:
            return None
        self.stack.shortened = True
        return lambda: setattr(self.stack, "shortened", False)

    def can_pad(self) -> bool:
        if not super().can_pad():
            return False
        if not self.execution.live or isinstance(self.score_head, LayerHeads):
            return True
        # A trainer fills up on the left.
        rows = packing.probe_rows(self.module)
        alone, together = ([[row] for row in rows], [rows])
        found = []
        with torch.inference_mode(), self._evaluating():
            for batches in (alone, together):
                made = [left_padded(batch, filler=self.filler, device=self.device) for batch in batches]
                found.append([row for one in made for row in self.module(**one).last_hidden_state[:, -1]])
        return packing.agree(found[0], found[1], self._dtype)

    def probe(self, *, packed: bool, others: bool = False, together: bool = False) -> list[torch.Tensor]:
        rows = packing.probe_rows(self.module)
        prefixes = {0: rows[2][:5], 1: rows[1][:3]}
        owners = [0, 1, 0, 0]
        if others:
            rows = packing.other_neighbours(rows)
        self.stack.allow_varlen = self._allow_varlen
        if packed or together:
            return list(self._hidden(prefixes, rows, owners, packed=packed))
        alone = zip(rows, owners, strict=True)
        return [self._hidden(prefixes, [row], [owner], packed=False)[0] for row, owner in alone]
