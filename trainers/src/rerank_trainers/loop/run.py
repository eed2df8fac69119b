"""`Run`: a run that is ready to start: trained, recorded, gone on with, measured."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from rerank_core import Reranker
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.parse import write_config
from rerank_trainers.config.schema import Config
from rerank_trainers.evaluation.dev_set import DevSet, Result
from rerank_trainers.loop import resume_checks
from rerank_trainers.loop.callbacks import CollapseWatch, Interrupt
from rerank_trainers.loop.run_record import data_facts, record, start_facts
from rerank_trainers.loop.trainer import RerankTrainer
from rerank_trainers.model import trained_model as models
from rerank_trainers.model.autocast import in_float32, restore_forward
from rerank_trainers.model.checkpoint_files import unfinished
from rerank_trainers.model.lora import check_saved

__all__ = ["Run", "live_reranker", "measure"]

_Callback = TypeVar("_Callback")


@dataclass(eq=False)
class Run:
    """A run that is ready to start."""

    config: Config
    model: models.Model
    trainer: RerankTrainer
    dev: DevSet | None
    rows: Sequence[TrainingRow]
    dev_rows: Sequence[TrainingRow] | None

    def train(self, *, resume: bool | str = False, overwrite: bool = False) -> None:
        """Train from the start, or on from the newest checkpoint (``resume=True``) or a named one.

        Interrupted once (Ctrl-C), it ends after the step it is in and saves a checkpoint.

        Args:
            overwrite: delete the checkpoints of an earlier run where it starts anew.

        Raises:
            InputError: nothing to resume, other settings, data or another model than the run began with (nothing on
                disk is changed then), or a fresh start beside the checkpoints of an earlier run.
            NonFiniteLossError: a loss or gradient is NaN or infinite; the last checkpoint stands.
        """
        checkpoint = self._checkpoint(resume, overwrite=overwrite)
        if self.trainer.args.process_index == 0:
            self._record(checkpoint, overwrite=overwrite)
        # Nobody looks for checkpoints, or writes one, before the first process has put the folder in order.
        self.trainer.accelerator.wait_for_everyone()
        try:
            self.trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        finally:
            self._of(Interrupt).release()
            restore_forward(self.model.module)

    def _checkpoint(self, resume: bool | str, *, overwrite: bool) -> Path | None:
        """Where training starts, after all that speaks against it was looked for; nothing is written."""
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
        """Write down what is trained on what, and remove what no run will read again."""
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
        """How many it is to have."""
        return resume_checks.steps_of(self.config, len(self.rows))

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What its data are; see `recording.data_facts`."""
        return data_facts(self.rows, self.dev_rows)

    def _of(self, kind: type[_Callback]) -> _Callback:
        return next(one for one in self.trainer.callback_handler.callbacks if isinstance(one, kind))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended training early."""
        return self.trainer.state.global_step < self.trainer.state.max_steps and self._of(Interrupt).asked

    @property
    def collapsed(self) -> bool:
        """Whether training was stopped because scores no longer differed within a query."""
        return self._of(CollapseWatch).collapsed

    def evaluate(self) -> Result | None:
        """The dev set under the weights as they are; None without one. All processes must ask."""
        return None if self.dev is None else measure(self.dev, self.model)


def live_reranker(model: models.Model) -> Reranker:
    """The model in training as serving would run it."""
    return Reranker.from_scorer(model.scorer, model.spec)


def measure(dev: DevSet, model: models.Model) -> Result:
    """The dev set under the weights as they are, in float32."""
    with in_float32(model.module):
        return dev.evaluate(live_reranker(model))
