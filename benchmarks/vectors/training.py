"""Trains a run through the public trainer, keeps its weights in a cache folder, and averages them with the start's."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import rerank_core
from rerank_core import InputError
from rerank_trainers.config.parse import parse_config
from rerank_trainers.config.schema import Config
from rerank_trainers.kinds import kind_of
from rerank_trainers.loop.prepare import live_reranker
from rerank_trainers.model.trained_model import Model, open_model
from rerank_trainers.train import train
from vectors.catalogue import STARTS, Run
from vectors.training_files import TrainingFiles

__all__ = [
    "Trained",
    "averaged",
    "averaged_model",
    "config_of",
    "open_start",
    "start_reranker",
    "train_run",
    "weights_of",
]

_WEIGHTS = "weights.safetensors"
_LARGE = 10_000_000


@dataclass(frozen=True)
class Trained:
    """The weights of a run.

    Attributes:
        facts: seconds, steps, rows and the dev set's metrics; None if the weights were there already.
    """

    file: Path
    facts: Mapping[str, Any] | None


def config_of(run: Run, seed: int, files: TrainingFiles, out: Path, *, max_steps: int | None = None) -> Config:
    """The configuration of a run; ``max_steps`` makes it a rehearsal of so many steps of four queries, without a dev
    set."""
    settings = dict(run.settings)
    more = {} if files.dev is None or max_steps is not None else {"eval": [str(files.dev)]}
    settings["data"] = {"on_error": "warn", **settings.get("data", {}), "train": [str(files.train)], **more}
    settings["model"] = {**STARTS[run.start], **run.model}
    fixed = {"out": str(out), "seed": seed, "device": "cpu", "keep_checkpoints": 1}
    short = {} if max_steps is None else {"max_steps": max_steps, "batch_size": 4}
    settings["train"] = {**settings["train"], **fixed, **short}
    return parse_config(settings)


def weights_of(run: Run, seed: int, folder: Path) -> Path:
    """The file of a run's weights in the cache folder; it may not exist yet."""
    return folder / f"{run.name.replace(' ', '-').replace(',', '')}-{seed}" / _WEIGHTS


def train_run(run: Run, seed: int, files: TrainingFiles, folder: Path, *, max_steps: int | None = None) -> Trained:
    """Train, or continue an interrupted training of the same settings; nothing is done if the weights are there.

    The weights are those of the best checkpoint on the dev set, or the last ones without a dev set.
    """
    file = weights_of(run, seed, folder)
    out = file.parent
    if file.exists():
        return Trained(file, None)
    config = config_of(run, seed, files, out, max_steps=max_steps)
    resume = any((out / "checkpoints").glob("checkpoint-*"))
    started = time.perf_counter()
    try:
        outcome = train(config, resume=resume, overwrite=not resume, publish=False)
    except InputError:
        if not resume:
            raise
        # The checkpoints are of other settings, or incomplete.
        resume = False
        outcome = train(config, overwrite=True, publish=False)
    if outcome.run.interrupted or outcome.run.collapsed:
        raise SystemExit(f"{run.name}, seed {seed}: training stopped early; start it again to continue")
    seconds = time.perf_counter() - started
    save_file(_kept(outcome.run.model.plain), str(file.with_suffix(".part")))
    file.with_suffix(".part").replace(file)
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    state = outcome.run.trainer.state
    facts: dict[str, Any] = {"seconds": round(seconds), "steps": state.global_step, "rows": len(outcome.data.rows)}
    if resume:
        facts["resumed"] = True
    for name, result in (("dev_before", outcome.before), ("dev_after", outcome.after)):
        if result is not None:
            facts[name] = {key: round(value, 4) for key, value in result.values.items()}
    return Trained(file, facts)


def _kept(module: Any) -> dict[str, torch.Tensor]:
    """All weights without a large frozen table, which is the start's."""
    frozen = {
        name for name, weight in module.named_parameters() if not weight.requires_grad and weight.numel() > _LARGE
    }
    return {name: value.detach().clone() for name, value in module.state_dict().items() if name not in frozen}


def open_start(run: Run) -> Model:
    """The model that a run starts from."""
    config = parse_config({"model": {**STARTS[run.start], **run.model}}).model
    model = open_model(config, kind_of(config), name=run.name.replace(" ", "-").replace(",", ""))
    model.plain.eval()
    return model


def start_reranker(run: Run) -> rerank_core.Reranker:
    """The untouched model."""
    return live_reranker(open_start(run))


def averaged(run: Run, file: Path, share: float) -> rerank_core.Reranker:
    """`averaged_model`, which scores through the serving path."""
    return live_reranker(averaged_model(run, file, share))


def averaged_model(run: Run, file: Path, share: float) -> Model:
    """A model whose weights are ``share`` times the start's plus the rest of the trained ones (Wortsman et al., 2022).

    Raises:
        ValueError: a share of a cross-encoder's start, whose score head is random.
    """
    if share and run.kind == "cross-encoder":
        raise ValueError("the start of a cross-encoder has a random score head, so an average with it has no meaning")
    model = open_start(run)
    state = model.plain.state_dict()
    for name, weight in load_file(str(file)).items():
        mixed = share * state[name] + (1 - share) * weight if weight.is_floating_point() else weight
        state[name] = mixed if share else weight
    model.plain.load_state_dict(state)
    return model
