"""`Run`: a prepared run, which can be trained, resumed and evaluated."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rerank_core import Reranker
from rerank_core.backends.torch import scorer_of
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.parse import write_config
from rerank_trainers.config.schema import Config
from rerank_trainers.evaluation.dev_sets import DevSets
from rerank_trainers.evaluation.result import Result
from rerank_trainers.loop import resume_checks
from rerank_trainers.loop.callbacks import CollapseWatch, Interrupt, without_known_messages
from rerank_trainers.loop.run_record import data_facts, record, start_facts
from rerank_trainers.loop.trainer import RerankTrainer
from rerank_trainers.model import trained_model as models
from rerank_trainers.model.autocast import in_float32, restore_forward
from rerank_trainers.model.checkpoint_files import unfinished
from rerank_trainers.model.lora import check_saved

__all__ = ["Run", "cut_widths", "live_reranker", "measure"]

_Callback = TypeVar("_Callback")


@dataclass(eq=False)
class Run:
    """A prepared run: its model is loaded and its trainer is built."""

    config: Config
    model: models.Model
    trainer: RerankTrainer
    dev: DevSets | None
    rows: Sequence[TrainingRow]
    dev_rows: Sequence[TrainingRow] | None

    def train(self, *, resume: bool | str = False, overwrite: bool = False) -> None:
        """Train from the start, or resume from the newest checkpoint (``resume=True``) or the one named.

        Ctrl-C ends training after the current step and saves a checkpoint; a second Ctrl-C ends it at once.

        Args:
            overwrite: delete the checkpoints of an earlier run before a fresh start.

        Raises:
            InputError: nothing to resume; other settings, data or model than the run began with (nothing on disk is
                changed then); a fresh start in a folder with checkpoints of an earlier run.
            NonFiniteLossError: a loss or gradient is NaN or infinite; the last checkpoint is kept.
        """
        checkpoint = self._checkpoint(resume, overwrite=overwrite)
        if self.trainer.args.process_index == 0:
            self._record(checkpoint, overwrite=overwrite)
        # The first process prepares the folder before any process reads or writes checkpoints.
        self.trainer.accelerator.wait_for_everyone()
        try:
            with without_known_messages():
                self.trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            self._callback(Interrupt).release()
            restore_forward(self.model.module)

    def _checkpoint(self, resume: bool | str, *, overwrite: bool) -> Path | None:
        """The checkpoint to start from, after every check; writes nothing."""
        out = self.config.train.out
        if resume is False:
            if not overwrite and self.trainer.args.process_index == 0:
                resume_checks.check_fresh(out)
            return None
        checkpoint = resume_checks.checkpoint_of(resume, out)
        if self.trainer.args.process_index == 0:
            resume_checks.check_same(self.config, self.facts, checkpoint)
            resume_checks.check_start(self.model.spec, self.config, checkpoint)
            check_saved(self.model.module, checkpoint)
            resume_checks.check_steps(checkpoint, self.steps)
        return checkpoint

    def _record(self, checkpoint: Path | None, *, overwrite: bool) -> None:
        """Record settings, data and start model; delete unfinished checkpoints, and with ``overwrite`` all."""
        out = Path(self.config.train.out)
        if checkpoint is None and overwrite:
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
        for folder in unfinished(out):
            shutil.rmtree(folder, ignore_errors=True)
        write_config(self.config, out / "config.json")
        record(out, "data", self.facts)
        record(out, "start", start_facts(self.model.spec))

    @property
    def steps(self) -> int:
        """Total number of steps."""
        return resume_checks.steps_of(self.config, self.rows)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Facts of the data; see `run_record.data_facts`."""
        return data_facts(self.rows, self.dev_rows, self.config.data)

    def _callback(self, kind: type[_Callback]) -> _Callback:
        return next(one for one in self.trainer.callback_handler.callbacks if isinstance(one, kind))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended training early."""
        return self.trainer.state.global_step < self.trainer.state.max_steps and self._callback(Interrupt).asked

    @property
    def collapsed(self) -> bool:
        """Whether training stopped because the scores of each query became equal."""
        return self._callback(CollapseWatch).collapsed

    def evaluate(self) -> Result | None:
        """Evaluate the dev set with the current weights; None without a dev set. All processes must call it."""
        return None if self.dev is None else measure(self.dev, self.model)


def live_reranker(model: models.Model) -> Reranker:
    """The model in training as a `Reranker`, through the serving pipeline. It warns of no language: the one that it is
    trained on may be new to it."""
    return Reranker.from_scorer(model.scorer, replace(model.spec, languages=()))


def measure(dev: DevSets, model: models.Model) -> Result:
    """Evaluate a dev set with the current weights, in float32, at the full width and at each Matryoshka width."""
    cut = [(str(width), _cut(model, width)) for width in cut_widths(model)]
    with in_float32(model.module):
        return dev.evaluate([("", live_reranker(model)), *cut])


def cut_widths(model: models.Model) -> list[int]:
    """The Matryoshka widths below the full one, at which a dev set is measured too."""
    scorer: Any = model.scorer
    return [width for width in model.widths if width < scorer.width]


def _cut(model: models.Model, width: int) -> Reranker:
    """The model in training with vectors of ``width``."""
    spec = replace(
        model.spec,
        languages=(),
        options=tuple(
            replace(option, default=width) if option.name == "truncate_dim" else option for option in model.spec.options
        ),
    )
    return Reranker.from_scorer(scorer_of(model.plain, model.scorer.tokenizer, spec), spec)
