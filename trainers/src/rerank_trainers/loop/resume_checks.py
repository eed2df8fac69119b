"""Finds the checkpoint to resume from, and refuses other settings, data or models than the run began with."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import transformers

from rerank_core import InputError, ModelSpec
from rerank_core.errors import short
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.parse import parse_config
from rerank_trainers.config.schema import Config
from rerank_trainers.data.batching import Draws
from rerank_trainers.loop.run_record import read_record, start_facts
from rerank_trainers.model.checkpoint_files import flaw_of, numbered, state_of, whole_checkpoints

__all__ = [
    "MAY_CHANGE",
    "CurrentSettings",
    "check_fresh",
    "check_same",
    "check_start",
    "check_steps",
    "checkpoint_of",
    "steps_of",
]

_LOG = logging.getLogger("rerank_trainers")

# Settings that may change between start and resume. Paths: rows, model and steps are compared by content.
_PATHS = frozenset(
    {
        "data.train", "data.eval", "data.teacher_vectors", "model.checkpoint", "model.revision", "model.name",
        "train.out",
    }
)  # fmt: skip
# Settings that change how a step is computed, but not its result; logging, kept checkpoints, device.
_EXECUTION = frozenset(
    {
        "model.gradient_checkpointing", "train.token_budget", "train.workers", "train.device", "train.log_steps",
        "train.keep_checkpoints",
    }
)  # fmt: skip
MAY_CHANGE = _PATHS | _EXECUTION
# Arguments of transformers that only concern logs.
_LOGS = frozenset({"report_to", "run_name", "disable_tqdm"})
# Schedules that do not depend on the total number of steps: the first always, the others without warm-up.
_ENDLESS = ("constant", "constant_with_warmup", "inverse_sqrt")

_REMEDY = (
    "a resumed run needs the settings, data and model that it began with. Give those again; or start a new run "
    "with another train.out or --overwrite. A new run can start from the weights of this one: publish it "
    "(`rerank train publish`), and give the folder as model.checkpoint"
)

# Added to the message if the number of rows is the same.
_NAMED = ", of other texts, in another order, or of other names (a row without an id is named by its file and line)"


class CurrentSettings(transformers.TrainerCallback):  # type: ignore[misc]
    """Applies ``train.log_steps`` to a resumed run; transformers would keep the value of the checkpoint."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        state.logging_steps = args.logging_steps


def checkpoint_of(resume: bool | str, out: str | Path) -> Path:
    """The newest complete checkpoint of a run (``resume=True``), or the folder named.

    Raises:
        InputError: there is none, or the folder named is not a complete checkpoint.
    """
    if isinstance(resume, str):
        folder = Path(resume)
        flaw = flaw_of(folder, resumable=True) if folder.is_dir() else "there is no such folder"
        if flaw is not None:
            raise InputError(f"{resume!r} is not a checkpoint of a run: {flaw}")
        return folder
    complete = whole_checkpoints(out, resumable=True)
    if not complete:
        broken = ", none of which is complete" if numbered(out) else ""
        more = " or with --overwrite" if broken else ""
        raise InputError(f"{str(out)!r} has no checkpoint to resume{broken}; start without --resume{more}")
    return complete[max(complete)]


def check_fresh(out: str | Path) -> None:
    """Refuse a new run in a folder with checkpoints of an earlier run: a later resume could use one of those.

    Raises:
        InputError: the folder has checkpoints.
    """
    if existing := numbered(out):
        raise InputError(
            f"{str(out)!r} has {len(existing)} checkpoints of an earlier run; continue with --resume, or give "
            "another train.out, or --overwrite to delete them"
        )


def check_same(config: Config, data: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse to resume with settings or data that would change any step, past or future.

    Args:
        data: `run_record.data_facts` of the current data.

    Raises:
        InputError: names each changed setting with both values, and changed data.
    """
    out = _run_of(checkpoint, config)
    recorded, before = read_record(out, "config"), read_record(out, "data")
    try:
        then = config if recorded is None else parse_config(recorded)
    except InputError as error:
        raise InputError(f"{str(out / 'config.json')!r} has settings that this version does not: {error}") from error
    differ = [f"{name} is {short(new)} and was {short(old)}" for name, new, old in _changed(config, then)]
    for part, name in (("train", "data.train"), ("eval", "data.eval")):
        old, new = (data if before is None else before).get(part) or {}, data.get(part) or {}
        if old.get("rows_sha256") != new.get("rows_sha256"):
            named = _NAMED if old.get("rows") == new.get("rows") else ""
            differ.append(f"{name} holds {_summary(new)} and held {_summary(old)}{named}")
        elif old.get("source_of_rows") != new.get("source_of_rows"):
            differ.append(f"{name} has rows of other sources, by which data.same_source draws steps")
    if (data if before is None else before).get("vectors") != data.get("vectors"):
        differ.append("data.teacher_vectors has other texts or another teacher")
    if differ:
        raise InputError(f"--resume: {'; '.join(differ)}; {_REMEDY}")


def check_start(spec: ModelSpec, config: Config, checkpoint: Path) -> None:
    """Refuse to resume with another model; warn about other library versions and about missing records.

    Raises:
        InputError: names the changed files, or says that template or head changed.
    """
    out = _run_of(checkpoint, config)
    for name, what in (("config", "settings"), ("data", "data"), ("start", "model")):
        if read_record(out, name) is None:
            _LOG.warning("%s has no %s.json that can be read: the run's %s cannot be compared", out, name, what)
    before = read_record(out, "start")
    if before is None:
        return
    now = start_facts(spec)
    old, new = before.get("files", {}), now["files"]
    if differ := sorted(name for name in {*old, *new} if old.get(name) != new.get(name)):
        raise InputError(
            f"--resume: model.checkpoint {config.model.checkpoint!r} holds other files than the run began with: "
            f"{', '.join(differ[:5])}; {_REMEDY}"
        )
    if before.get("layout") != now["layout"]:
        raise InputError(
            f"--resume: the template or head of {config.model.like or config.model.checkpoint!r} is another than the "
            f"run began with; {_REMEDY}"
        )
    was = before.get("versions", {})
    changed = [f"{name} {was.get(name)} -> {now['versions'].get(name)}" for name in sorted({*was, *now["versions"]})
               if was.get(name) != now["versions"].get(name)]  # fmt: skip
    if changed:
        _LOG.warning("this run began with other versions, which may round differently: %s", ", ".join(changed))


def steps_of(config: Config, rows: Sequence[TrainingRow]) -> int:
    """Number of steps of a run."""
    train = config.train
    if train.max_steps > 0:
        return train.max_steps
    draws = Draws.of(rows, train.batch_size, train.seed, same_source=config.data.same_source)
    return math.ceil(train.epochs * draws.steps)


def check_steps(checkpoint: Path, total: int) -> None:
    """Refuse a total number of steps below the step of the checkpoint.

    Raises:
        InputError: the checkpoint is past the end of the run.
    """
    done = int(state_of(checkpoint)["global_step"])
    if done > total:
        raise InputError(
            f"--resume: {str(checkpoint)!r} is at step {done}, and the run would end at step {total}; raise "
            "train.epochs or train.max_steps, or publish the checkpoint with `rerank train publish`"
        )


def _run_of(checkpoint: Path, config: Config) -> Path:
    """The folder of the run that a checkpoint belongs to."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else Path(config.train.out)


def _changed(now: Config, then: Config) -> list[tuple[str, Any, Any]]:
    """Changed settings that must not change, as (name, value now, value then)."""
    new, old = (json.loads(json.dumps(dataclasses.asdict(config))) for config in (now, then))
    free = set(MAY_CHANGE)
    if now.train.schedule == _ENDLESS[0] or (now.train.schedule in _ENDLESS and now.train.warmup == 0):
        free |= {"train.epochs", "train.max_steps"}
    for settings in (new, old):
        settings["train"]["arguments"] = {k: v for k, v in settings["train"]["arguments"].items() if k not in _LOGS}
    changed = [
        (f"{part}.{name}", new[part][name], old[part][name])
        for part in ("data", "model", "train")
        for name in new[part]
        if f"{part}.{name}" not in free and new[part][name] != old[part][name]
    ]
    if new["objective"] != old["objective"]:
        changed.append(("objective", new["objective"], old["objective"]))
    return changed


def _summary(facts: Mapping[str, Any]) -> str:
    return f"{facts['rows']:,} rows (SHA-256 {facts['rows_sha256'][:12]})" if facts else "no rows"
