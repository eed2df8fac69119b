"""Which folders of a run are whole checkpoints.

A checkpoint is written file by file, ``trainer_state.json`` last, and an old one is deleted in any order; a process may
be killed in between. A folder counts where every file that is read from it is there and can be read to its end.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from rerank_core.spec.reranker_json import FILE_NAME

__all__ = ["STATE", "flaw_of", "numbered", "state_of", "unfinished", "whole_checkpoints"]

_LOG = logging.getLogger("rerank_trainers")

STATE = "trainer_state.json"

# Of each line one must be there. What publishing reads, and what only goes on from.
_MODEL = (
    ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"),
    ("config.json", "adapter_config.json"),
    ("tokenizer.json",),
    (FILE_NAME,),
)
_LOOP = (("optimizer.pt",), ("scheduler.pt",), ("rng_state.pth", "rng_state_0.pth"))


def numbered(out: str | Path) -> dict[int, Path]:
    """The folders of a run that are named like checkpoints, by their steps, ascending."""
    found = {
        int(match.group(1)): folder
        for folder in (Path(out) / "checkpoints").glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and folder.is_dir()
    }
    return dict(sorted(found.items()))


def whole_checkpoints(out: str | Path, *, resumable: bool = False) -> dict[int, Path]:
    """The checkpoints of a run that are whole, by their steps, ascending; of others the log says what they lack.

    Args:
        resumable: whether training is to go on from them, which reads more files than publishing does.
    """
    found = {}
    for steps, folder in numbered(out).items():
        flaw = flaw_of(folder, resumable=resumable)
        if flaw is None:
            found[steps] = folder
        else:
            _LOG.warning("%s is passed over, no whole checkpoint: %s", folder, flaw)
    return found


def flaw_of(folder: Path, *, resumable: bool = False) -> str | None:
    """Why a folder is no whole checkpoint, None where it is one."""
    # DeepSpeed and FSDP keep the state of each process in a folder of its own, and the weights perhaps too.
    shared = any(path.is_dir() for path in folder.iterdir())
    wanted: list[tuple[str, ...]] = [(STATE,)] if folder.parent.name == "checkpoints" or resumable else []
    if not (shared and resumable):
        wanted += [*_MODEL, *(_LOOP if resumable else ())]
    for names in wanted:
        if not any((folder / name).is_file() for name in names):
            return f"it has no {' or '.join(names)}"
    for path in sorted(folder.iterdir()):
        if path.is_file() and not _readable(path):
            return f"its {path.name} is cut short or damaged"
    if (folder / STATE).is_file() and not isinstance(state_of(folder).get("global_step"), int):
        return f"its {STATE} does not say at which step it is"
    index = folder / "model.safetensors.index.json"
    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()) if index.is_file() else ()
    missing = sorted(name for name in shards if not (folder / name).is_file())
    return f"it has no {missing[0]}" if missing else None


def unfinished(out: str | Path) -> list[Path]:
    """Folders whose writing, or deletion, ended before its end: nothing is read from them again."""
    return [folder for folder in numbered(out).values() if not _readable(folder / STATE)]


def state_of(checkpoint: Path) -> dict[str, Any]:
    """What transformers' Trainer wrote down of its progress; empty where a checkpoint was moved without it."""
    path = checkpoint / STATE
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _readable(path: Path) -> bool:
    """Whether a file of a kind that we know is there to its end."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt"):
                return True
        # torch saves zip archives, whose directory stands at their end.
        return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)
    except (OSError, ValueError, SafetensorError):
        return False
