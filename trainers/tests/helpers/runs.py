"""Settings of runs, their weights and gradients, and comparisons of them, for the tests of the trainers."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import Config
from rerank_trainers.loop.dataset import Item, TrainingDataset
from rerank_trainers.loop.prepare import Run

State = dict[str, torch.Tensor]
Gradient = dict[str, torch.Tensor]
Configured = Callable[..., Config]
Prepared = Callable[..., Run]
Gradients = Callable[[Run], list[Gradient]]
MakeRows = Callable[..., list[TrainingRow]]

# All rows in one step, all documents of each, and no clipping: nothing between the loss and the weights.
WHOLE = ("train.batch_size=100", "data.group_size=0", "train.clip=0")

# What makes every number of a run depend on all before it: dropout, Adam, a schedule, two epochs of five steps.
EVERYTHING = ("model.dropout=0.1", "train.arguments.optim=adamw_torch", "train.schedule=cosine", "train.warmup=0.2",
              "train.learning_rate=0.002", "train.epochs=2", "train.keep_checkpoints=20")  # fmt: skip


def weights(run: Run) -> State:
    """A copy of the weights."""
    return {name: one.clone() for name, one in run.model.module.state_dict().items()}


def same(one: State, other: State) -> bool:
    """Whether two sets of weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def trained(run: Run, **options: Any) -> State:
    """The weights at a run's end."""
    run.train(**options)
    return weights(run)


def folder(run: Run, step: int) -> Path:
    """A checkpoint of a run."""
    return Path(run.trainer.args.output_dir) / f"checkpoint-{step}"


class _Capture(transformers.TrainerCallback):  # type: ignore[misc]
    """Keeps the gradient of every step, as the optimizer gets it."""

    def __init__(self) -> None:
        self.steps: list[Gradient] = []

    def on_pre_optimizer_step(self, *args: Any, model: Any, **more: Any) -> None:
        found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
        self.steps.append({name: gradient.clone() for name, gradient in found.items()})


def gradients_of(run: Run) -> list[Gradient]:
    """Train a run, and return each step's gradient by the name of the weight."""
    capture = _Capture()
    run.trainer.add_callback(capture)
    run.train()
    return capture.steps


class AtStep(transformers.TrainerCallback):  # type: ignore[misc]
    """Does something after a step."""

    def __init__(self, step: int, what: Callable[[], Any]) -> None:
        self.step, self.what = step, what

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == self.step:
            self.what()


def interrupt() -> None:
    """What Ctrl-C sends, to this thread."""
    signal.raise_signal(signal.SIGINT)


def assert_equal(found: Gradient, expected: Gradient, within: float = 1e-6) -> None:
    """Every weight's gradient, relative to the largest of all."""
    assert found.keys() == expected.keys()
    largest = max(float(one.norm()) for one in expected.values())
    assert largest > 1e-2, "a gradient of nothing proves nothing"
    for name, one in expected.items():
        assert float((found[name] - one).norm()) <= within * largest, name


def step_of(run: Run, rows: list[TrainingRow]) -> dict[str, Any]:
    """The passes of a step of all rows."""
    groups = TrainingDataset(rows, LabelScale(), 0, seed=0)
    return run.trainer.passes([groups[Item(number, 0, 1 / len(rows))] for number in range(len(rows))])


def gradient_now(run: Run) -> Gradient:
    """What has been added to the weights' gradients, which are cleared."""
    found = {name: one.grad.clone() for name, one in run.model.module.named_parameters() if one.grad is not None}
    run.model.module.zero_grad()
    return found
