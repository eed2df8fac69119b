"""Which checkpoint a run goes on from, and whether it may."""

from __future__ import annotations

import json
from pathlib import Path

from rerank_core import InputError
from rerank_trainers.config import Config

__all__ = ["check_fresh", "check_same", "named", "newest"]

_STATE = "trainer_state.json"  # the last file of a checkpoint to be written


def newest(out: str | Path) -> str:
    """The newest whole checkpoint of a run's folder; one whose writing was cut off is passed over.

    Raises:
        InputError: there is none.
    """
    found = sorted(_checkpoints(out), key=lambda folder: int(folder.name.rpartition("-")[2]))
    if not found:
        raise InputError(f"{str(out)!r} has no checkpoint to resume; start without --resume")
    return str(found[-1])


def named(checkpoint: str) -> str:
    """A checkpoint that the caller names.

    Raises:
        InputError: there is none of that name.
    """
    if not (Path(checkpoint) / _STATE).is_file():
        raise InputError(f"{checkpoint!r} is no checkpoint of a run: it has no {_STATE}")
    return checkpoint


def check_fresh(out: str | Path) -> None:
    """Refuse to start anew beside an earlier run's checkpoints: a later resume could take one of those.

    Raises:
        InputError: the folder has checkpoints.
    """
    if found := _checkpoints(out):
        raise InputError(
            f"{str(out)!r} has {len(found)} checkpoints of an earlier run; go on with --resume, or give "
            "another train.out"
        )


def check_same(config: Config, out: str | Path) -> None:
    """Refuse to resume with settings that change what the steps already taken were made of.

    Raises:
        InputError: names the settings.
    """
    path = Path(out) / "config.json"
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for part, name in (("train", "batch_size"), ("train", "seed"), ("data", "group_size")):
        then, now = before[part][name], getattr(getattr(config, part), name)
        if then != now:
            raise InputError(
                f"{part}.{name} is {now!r} and was {then!r}; a run is resumed with the steps it began with"
            )


def _checkpoints(out: str | Path) -> list[Path]:
    return [state.parent for state in (Path(out) / "checkpoints").glob(f"checkpoint-*/{_STATE}")]
