"""Publishes a run, or one of its checkpoints; collects the facts for the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import Config, PublishConfig
from rerank_trainers.evaluation.dev_sets import DevSets
from rerank_trainers.evaluation.result import Result
from rerank_trainers.loop.run import Run, measure
from rerank_trainers.loop.run_record import read_record
from rerank_trainers.model.averaging import average, start_of
from rerank_trainers.model.checkpoint_files import state_of
from rerank_trainers.model.checkpoints import config_beside, find_checkpoint, open_checkpoint
from rerank_trainers.model.kind import Kinds
from rerank_trainers.publish.card import CardFacts
from rerank_trainers.publish.probes import Pair
from rerank_trainers.publish.publish import Published, check_target, publish

__all__ = ["publish_checkpoint", "publish_run"]

_PROBED = 4


def publish_run(
    run: Run,
    directory: str | Path | None = None,
    *,
    before: Result | None = None,
    after: Result | None = None,
    overwrite: bool = True,
) -> Published:
    """Publish the current weights of a run; by default to the folder ``final`` of the run.

    Raises:
        InputError, PublishError: see `publish`.
    """
    config, state = run.config, run.trainer.state
    facts = replace(
        _facts(config, Path(config.train.out)),
        before=before,
        after=after,
        steps=state.global_step,
        epochs=state.epoch,
    )
    return publish(
        run.model,
        Path(config.train.out) / "final" if directory is None else directory,
        config.publish,
        facts=facts,
        probes=_probes(run.dev),
        overwrite=overwrite,
    )


def publish_checkpoint(
    source: str | Path,
    directory: str | Path,
    kinds: Kinds,
    config: PublishConfig | None = None,
    *,
    checkpoint: int | None = None,
    dev_rows: Sequence[TrainingRow] | None = None,
    overwrite: bool = False,
) -> Published:
    """Publish a checkpoint that training saved.

    Args:
        source: folder of a run, or of a checkpoint.
        kinds: the kinds that can be trained.
        config: by default the run's publish settings.
        checkpoint: number of steps of the checkpoint; by default the best one, or without a dev set the last.
        dev_rows: dev set to evaluate for the card, and to fit calibration to.

    Raises:
        InputError, CheckpointError: no such checkpoint, or one that cannot be loaded.
        PublishError: see `publish`.
    """
    check_target(directory, overwrite=overwrite)
    folder = find_checkpoint(Path(source), checkpoint)
    run_config = config_beside(folder)
    settings = config or (PublishConfig() if run_config is None else run_config.publish)
    model = open_checkpoint(folder, kinds, None if run_config is None else run_config.model)
    if settings.average_with_start:
        if run_config is None:
            raise InputError(
                f"publish.average_with_start needs the configuration of the run, and {str(folder)!r} was moved out of "
                "its run; publish it from there"
            )
        average(model, start_of(run_config.model, model.kind), settings.average_with_start)
    dev = after = None
    if dev_rows is not None:
        if run_config is None:
            dev = DevSets.of(dev_rows)
        else:
            dev = DevSets.of(dev_rows, run_config.train.metric, scale=run_config.data.label_scale())
        after = measure(dev, model)
    facts = CardFacts(origin=None) if run_config is None else _facts(run_config, folder.parent.parent)
    facts = replace(facts, after=after, **_progress(folder))
    return publish(model, directory, settings, facts=facts, probes=_probes(dev), overwrite=overwrite)


def _facts(config: Config, out: Path) -> CardFacts:
    data = read_record(out, "data") or {}
    train, dev = data.get("train", {}), data.get("eval", {})
    return CardFacts(
        origin=config.model.checkpoint,
        config=config,
        sources=train.get("sources", {}),
        fingerprint=train.get("sha256"),
        dev_sources=dev.get("sources", {}),
        dev_fingerprint=dev.get("sha256"),
    )


def _progress(checkpoint: Path) -> dict[str, Any]:
    """Steps and epochs from transformers' trainer_state.json."""
    state = state_of(checkpoint)
    return {"steps": state.get("global_step"), "epochs": state.get("epoch")}


def _probes(dev: DevSets | None) -> list[Pair]:
    """The first few (query, document) pairs of the dev set."""
    if dev is None:
        return []
    return [(row.query, doc) for row in dev.rows[:_PROBED] for doc in row.texts[:2]]
