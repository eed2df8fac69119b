"""transformers' Trainer with a step whose result does not depend on memory or on the number of processes.

A step has a fixed number of queries. It is computed in several forward passes under a token budget, on any number of
processes. Its gradient is that of the mean loss over all its queries: the gradients of passes and processes are summed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from rerank_core import write_spec
from rerank_core.backends.torch import return_freed_memory
from rerank_core.backends.torch.load_weights import quiet
from rerank_trainers.errors import CheckpointWriteError, NonFiniteLossError
from rerank_trainers.loop.dataset import TrainingDataset
from rerank_trainers.loop.passes import Pass, Passes
from rerank_trainers.loop.step_loss import StepLoss
from rerank_trainers.model.trained_model import Model, joined
from rerank_trainers.objectives.base import Objective

__all__ = ["RerankTrainer"]

_LOG = logging.getLogger("rerank_trainers")

# Parts of the RuntimeError messages of torch's zip writer on a full disk; it has no error class.
_UNWRITTEN = ("inline_container.cc", "iostream error")

_PARTS_BETWEEN = 4
"""Parts of a pass between two calls of `return_freed_memory`."""

Evaluate = Callable[[], dict[str, float]]


class RerankTrainer(transformers.Trainer):  # type: ignore[misc]
    """Trains a `Model` with an objective.

    Args:
        batch_size: queries of a step, over all processes.
        evaluate: returns the dev set metrics of the serving pipeline; None without a dev set.
    """

    control: Any

    def __init__(
        self,
        model: Model,
        objective: Objective,
        groups: TrainingDataset,
        passes: Passes,
        args: transformers.TrainingArguments,
        *,
        batch_size: int,
        evaluate: Evaluate | None = None,
        callbacks: list[transformers.TrainerCallback] | None = None,
    ) -> None:
        self.trained = model
        self.passes = passes
        self.batch_size = batch_size
        self.groups = groups
        self._metrics = evaluate
        self._rows: tuple[str, ...] = ()
        self._told_zero = False
        # Buffers are constants here. Broadcast before a pass without a graph on one process, they would not match the
        # messages of the other processes.
        parallel: Any = DistributedDataParallel
        buffers = [name for name, _ in model.module.named_buffers()]
        parallel._set_params_and_buffers_to_ignore_for_model(model.module, buffers)
        super().__init__(
            model=model.module,
            args=args,
            train_dataset=groups,
            # Never read, because `evaluate` is overridden; transformers requires one if eval_strategy is set.
            eval_dataset=groups if evaluate else None,
            processing_class=model.tokenizer,
            callbacks=callbacks,
        )
        self.step_loss = StepLoss(
            model,
            objective,
            whole=passes.whole,
            device=self.args.device,
            rank=self.args.process_index,
            world=self.args.world_size,
        )
        # If True, transformers would count labels in the batch and scale the loss by them.
        self.model_accepts_loss_kwargs = False

    # ------------------------------------------------------------------ data
    def get_train_dataloader(self) -> DataLoader[Any]:
        steps = self.groups.steps(self.batch_size, rank=self.args.process_index, world=self.args.world_size)
        # Not prepared by accelerate: `Steps` yields only the rows of this process.
        return _Loader(
            self.train_dataset,
            batch_sampler=steps,
            collate_fn=self.passes,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            multiprocessing_context="fork" if self.args.dataloader_num_workers else None,
        )

    def _run_epoch(self, **more: Any) -> None:
        """Take the steps of an epoch; none where a resumed run had ended, at its last step or by ``train.patience``.
        transformers looks only after a step whether it was the last."""
        if self.state.global_step >= self.state.max_steps or any(
            isinstance(one, transformers.EarlyStoppingCallback)
            and one.early_stopping_patience_counter >= one.early_stopping_patience
            for one in self.callback_handler.callbacks
        ):
            self.control.should_training_stop = True
            return
        super()._run_epoch(**more)

    # ------------------------------------------------------------------ a step
    def training_step(
        self, model: Any, inputs: Mapping[str, list[Pass]], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Compute this process's share of a step and add its gradient to the weights.

        Returns:
            the loss times the number of processes; the log averages it over them.

        Raises:
            NonFiniteLossError: a loss is NaN or infinite.
        """
        model.train()
        passes = inputs["passes"]
        total = torch.zeros((), device=self.args.device)
        for number, part in enumerate(passes):
            total += self._pass(model, part, last=number == len(passes) - 1)
        self._rows = tuple(id_ for part in passes for id_ in part.ids)
        return total

    def _pass(self, model: Any, part: Pass, *, last: bool) -> torch.Tensor:
        """Compute the loss of a pass and add its gradient to the weights.

        A pass that exceeds the token budget runs in parts (GradCache; Gao et al., 2021): without a graph for the loss
        and its gradient with respect to the representations, then again with the same dropout to backpropagate that
        gradient. Exact.
        """
        scorer, device = self.trained.scorer, self.args.device
        runs = part.parts(self.passes.budget, packed=scorer.packed, alone=not scorer.packed and scorer.one_by_one)
        batches = [part.some(run) for run in runs]
        if self._at_once(len(batches)):
            with self._syncing(model, last):
                with self.compute_loss_context_manager():
                    parts = self.trained.represent(model, batches[0])
                # Outside of autocast, under which the gradient would be computed in half precision.
                loss, gradients = self.step_loss(part, parts, at=self.state.global_step)
                self._backward(parts, gradients)
            return loss
        pieces, states = [], []
        for batch in batches:
            states.append(_random_state(device))
            with torch.no_grad(), self._syncing(model, last=False), self.compute_loss_context_manager():
                pieces.append(self.trained.represent(model, batch))
            self._return_memory(len(pieces))
        loss, gradients = self.step_loss(part, joined(pieces), at=self.state.global_step)
        starts = dict.fromkeys(gradients, 0)
        for number, (batch, state, piece) in enumerate(zip(batches, states, pieces, strict=True)):
            _restore(state, device)
            own = {}
            for name, values in piece.items():
                own[name] = gradients[name][starts[name] : starts[name] + len(values)]
                starts[name] += len(values)
            with self._syncing(model, last and number == len(batches) - 1):
                with self.compute_loss_context_manager():
                    again = self.trained.represent(model, batch)
                self._backward(again, own)
            self._return_memory(number + 1)
        return loss

    def _return_memory(self, parts: int) -> None:
        """Return freed memory to the system after some parts: parts of different sizes leave gaps between the blocks
        of the C library's allocator, so that the process would grow with their number."""
        if self.args.device.type == "cpu" and parts % _PARTS_BETWEEN == 0:
            return_freed_memory()

    def _at_once(self, parts: int) -> bool:
        """Whether a pass runs in one part. Where processes exchange representations, all run in one part or none does:
        DistributedDataParallel exchanges messages of its own in a forward pass with a graph."""
        if not self.passes.whole or self.args.world_size == 1:
            return parts == 1
        most = torch.tensor(parts, device=self.args.device)
        torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
        return int(most) == 1

    def _backward(self, parts: Mapping[str, torch.Tensor], gradients: Mapping[str, torch.Tensor]) -> None:
        """Add the gradient of the weights, given that of the representations."""
        self.accelerator.backward(sum(((values * gradients[name]).sum() for name, values in parts.items())))

    @contextlib.contextmanager
    def _syncing(self, model: Any, last: bool) -> Iterator[None]:
        """Exchange gradients between processes in the last pass of a step only."""
        if last:
            yield
            return
        state = self.accelerator.gradient_state
        kept = state.sync_gradients
        state._set_sync_gradients(False)  # as transformers' loop does; DeepSpeed reads it
        try:
            with self.accelerator.no_sync(model):
                yield
        finally:
            state._set_sync_gradients(kept)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # Under fp16 infinite gradients are normal: the loss scaler lowers its scale after them.
        if norm is not None and not self.args.fp16 and not math.isfinite(float(norm)):
            raise NonFiniteLossError(
                f"at step {self.state.global_step} the gradient of the rows {', '.join(self._rows[:8])} is not finite; "
                "lower train.learning_rate, or look at these rows with `rerank train check`"
            )
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if logs.get("loss") == 0 and not self._told_zero and self.args.process_index == 0:
            self._told_zero = True
            _LOG.warning(
                "at step %d the loss since the last log is exactly 0, so nothing was learnt. Either the queries have "
                "nothing to be compared with: no negatives (a text that is known to be relevant is none, nor is one "
                "above false_negative_margin), or labels that do not distinguish their documents; then add negatives "
                "(`rerank train mine`), or raise train.batch_size. Or the model separates all of their documents "
                "already; then train.learning_rate or train.epochs is too high",
                self.state.global_step,
            )
        if "loss" in logs and (spread := self.step_loss.spread.take(self.accelerator)) is not None:
            logs["score_spread"] = spread
        super().log(logs, start_time)

    # ------------------------------------------------------------------ evaluation and files
    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **more: Any) -> dict[str, float]:
        """Dev set metrics, computed by the serving pipeline."""
        if self._metrics is None:
            return {}
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in self._metrics().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, SafetensorError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(part in str(error) for part in _UNWRITTEN):
                raise
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)  # an incomplete checkpoint only takes up space
            raise CheckpointWriteError(
                f"{str(folder)!r} cannot be written: {error}. Earlier checkpoints are kept; free space, and continue "
                "with --resume"
            ) from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        with quiet():
            super()._save(output_dir, state_dict)
        # transformers calls this in every process; only the first writes.
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            write_spec(self.trained.spec, folder, base=self.trained.base)
            self.trained.kind.write(self.trained.plain, self.trained.spec, folder)


class _Loader(DataLoader[Any]):
    def set_epoch(self, epoch: int) -> None:
        """Called by transformers before each epoch."""
        steps: Any = self.batch_sampler
        steps.set_epoch(epoch)


def _random_state(device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _restore(state: tuple[torch.Tensor, torch.Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
