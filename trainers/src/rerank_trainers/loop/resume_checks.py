"""Which checkpoint a run goes on from, and whether it may: with the settings, the data and the model it began with."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from rerank_core import InputError, ModelSpec
from rerank_core.errors import short
from rerank_trainers.config.parse import parse_config
from rerank_trainers.config.schema import Config
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

# What may differ when a run goes on. Where files lie: rows, model and steps are compared by what they hold.
_PLACES = frozenset({"data.train", "data.eval", "model.checkpoint", "model.revision", "model.name", "train.out"})
# How a step is computed, not what it is; what is logged and kept; and where it runs.
_EXECUTION = frozenset(
    {
        "model.gradient_checkpointing", "train.token_budget", "train.workers", "train.device", "train.log_steps",
        "train.keep_checkpoints",
    }
)  # fmt: skip
MAY_CHANGE = _PLACES | _EXECUTION
# Of transformers' arguments, those of its logs.
_LOGS = frozenset({"report_to", "run_name", "disable_tqdm"})
# Schedules whose next step does not depend on how many there will be; but for the first with no warm-up alone.
_ENDLESS = ("constant", "constant_with_warmup", "inverse_sqrt")

_REMEDY = (
    "a run goes on as it began. Give those values again; or another train.out, or --overwrite, for a new run. One "
    "may start from what this one has learnt: publish it (`rerank train publish`), and give the folder as "
    "model.checkpoint"
)

# The same texts may have other names.
_NAMED = ", of other texts, in another order, or of other names (a row without an id is named by its file and line)"


class CurrentSettings(transformers.TrainerCallback):  # type: ignore[misc]
    """transformers takes the steps between logs from the checkpoint, whatever a resumed run is told."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        state.logging_steps = args.logging_steps


def checkpoint_of(resume: bool | str, out: str | Path) -> Path:
    """The newest whole checkpoint of a run's folder (``resume=True``), or the one named.

    Raises:
        InputError: there is none, or the one named is not whole.
    """
    if isinstance(resume, str):
        folder = Path(resume)
        flaw = flaw_of(folder, resumable=True) if folder.is_dir() else "there is no such folder"
        if flaw is not None:
            raise InputError(f"{resume!r} is no checkpoint of a run: {flaw}")
        return folder
    found = whole_checkpoints(out, resumable=True)
    if not found:
        broken = ", none of which is whole" if numbered(out) else ""
        more = " or with --overwrite" if broken else ""
        raise InputError(f"{str(out)!r} has no checkpoint to resume{broken}; start without --resume{more}")
    return found[max(found)]


def check_fresh(out: str | Path) -> None:
    """Refuse to start anew beside an earlier run's checkpoints: a later resume could take one of those.

    Raises:
        InputError: the folder has checkpoints.
    """
    if found := numbered(out):
        raise InputError(
            f"{str(out)!r} has {len(found)} checkpoints of an earlier run; go on with --resume, or give "
            "another train.out, or --overwrite to delete them"
        )


def check_same(config: Config, data: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse to resume with settings or data that change what the steps were made of, taken ones or later ones.

    Args:
        data: `recording.data_facts` of now.

    Raises:
        InputError: names each setting with both values, and the data.
    """
    out = _run_of(checkpoint, config)
    told, before = read_record(out, "config"), read_record(out, "data")
    try:
        then = config if told is None else parse_config(told)
    except InputError as error:
        raise InputError(f"{str(out / 'config.json')!r} has settings that this version does not: {error}") from error
    differ = [f"{name} is {short(new)} and was {short(old)}" for name, new, old in _changed(config, then)]
    for part, name in (("train", "data.train"), ("eval", "data.eval")):
        old, new = (data if before is None else before).get(part) or {}, data.get(part) or {}
        if old.get("rows_sha256") != new.get("rows_sha256"):
            named = _NAMED if old.get("rows") == new.get("rows") else ""
            differ.append(f"{name} holds {_told(new)} and held {_told(old)}{named}")
    if differ:
        raise InputError(f"--resume: {'; '.join(differ)}; {_REMEDY}")


def check_start(spec: ModelSpec, config: Config, checkpoint: Path) -> None:
    """Refuse to resume around another model; warn where the libraries are others, and of what nothing was written down.

    Raises:
        InputError: names the files that differ, or the template and head.
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
        _LOG.warning("this run began with other versions, which may round otherwise: %s", ", ".join(changed))


def steps_of(config: Config, rows: int) -> int:
    """How many steps a run has."""
    train = config.train
    return train.max_steps if train.max_steps > 0 else math.ceil(train.epochs * math.ceil(rows / train.batch_size))


def check_steps(checkpoint: Path, total: int) -> None:
    """Refuse to end a run before the step that it is at.

    Raises:
        InputError: the checkpoint is further.
    """
    done = int(state_of(checkpoint)["global_step"])
    if done > total:
        raise InputError(
            f"--resume: {str(checkpoint)!r} is at step {done}, and the run is to have {total}; raise train.epochs or "
            "train.max_steps, or publish what there is with `rerank train publish`"
        )


def _run_of(checkpoint: Path, config: Config) -> Path:
    """The folder of the run that a checkpoint is of."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == "checkpoints" else Path(config.train.out)


def _changed(now: Config, then: Config) -> list[tuple[str, Any, Any]]:
    """Settings that may not differ and do, as (name, value, value before)."""
    new, old = (json.loads(json.dumps(dataclasses.asdict(config))) for config in (now, then))
    free = set(MAY_CHANGE)
    if now.train.schedule == _ENDLESS[0] or (now.train.schedule in _ENDLESS and now.train.warmup == 0):
        free |= {"train.epochs", "train.max_steps"}
    for told in (new, old):
        told["train"]["arguments"] = {k: v for k, v in told["train"]["arguments"].items() if k not in _LOGS}
    found = [
        (f"{part}.{name}", new[part][name], old[part][name])
        for part in ("data", "model", "train")
        for name in new[part]
        if f"{part}.{name}" not in free and new[part][name] != old[part][name]
    ]
    if new["objective"] != old["objective"]:
        found.append(("objective", new["objective"], old["objective"]))
    return found


def _told(facts: Mapping[str, Any]) -> str:
    return f"{facts['rows']:,} rows (SHA-256 {facts['rows_sha256'][:12]})" if facts else "no rows"
