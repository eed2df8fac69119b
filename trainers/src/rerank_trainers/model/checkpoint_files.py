"""Which folders of a run are complete checkpoints.

A checkpoint is written file by file, ``trainer_state.json`` last, and an old one is deleted file by file; a process may
be killed in between. A folder is complete if every file that will be read exists and can be read to its end.
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

# One file of each line must exist. _MODEL: read by publishing and resuming; _LOOP: read only by resuming.
_MODEL = (
    ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"),
    ("config.json", "adapter_config.json"),
    ("tokenizer.json",),
    (FILE_NAME,),
)
_LOOP = (("optimizer.pt",), ("scheduler.pt",), ("rng_state.pth", "rng_state_0.pth"))


def numbered(out: str | Path) -> dict[int, Path]:
    """Folders of a run that are named ``checkpoint-N``, by step, ascending."""
    folders = {
        int(match.group(1)): folder
        for folder in (Path(out) / "checkpoints").glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", folder.name)) and folder.is_dir()
    }
    return dict(sorted(folders.items()))


def whole_checkpoints(out: str | Path, *, resumable: bool = False) -> dict[int, Path]:
    """The complete checkpoints of a run, by step, ascending; the log names what the others lack.

    Args:
        resumable: also require the files that resuming reads.
    """
    complete = {}
    for steps, folder in numbered(out).items():
        flaw = flaw_of(folder, resumable=resumable)
        if flaw is None:
            complete[steps] = folder
        else:
            _LOG.warning("%s is skipped, because it is not a complete checkpoint: %s", folder, flaw)
    return complete


def flaw_of(folder: Path, *, resumable: bool = False) -> str | None:
    """Why a folder is not a complete checkpoint; None if it is one."""
    # DeepSpeed and FSDP keep the state of each process, and perhaps the weights, in subfolders.
    shared = any(path.is_dir() for path in folder.iterdir())
    required: list[tuple[str, ...]] = [(STATE,)] if folder.parent.name == "checkpoints" or resumable else []
    if not (shared and resumable):
        required += [*_MODEL, *(_LOOP if resumable else ())]
    for names in required:
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
    """Checkpoint folders that were only partly written or deleted; nothing reads them again."""
    return [folder for folder in numbered(out).values() if not _readable(folder / STATE)]


def state_of(checkpoint: Path) -> dict[str, Any]:
    """The content of transformers' trainer_state.json; empty if a checkpoint was moved without it."""
    path = checkpoint / STATE
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return state


def _readable(path: Path) -> bool:
    """Whether a file of a known format is complete; True for unknown formats."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_text(encoding="utf-8")), dict)
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt"):
                return True
        # torch saves zip archives; their directory is at the end of the file.
        return path.suffix not in (".pt", ".pth", ".bin") or zipfile.is_zipfile(path)
    except (OSError, ValueError, SafetensorError):
        return False
