"""Helpers of every benchmark: folders, measurements stored in a file, differences of scores, facts of the machine."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from environments import home, python_of  # noqa: E402

__all__ = ["QUICK", "ROOT", "append", "drift", "folders", "machine", "python_of", "read", "results", "write"]

QUICK = os.environ.get("RERANK_BENCH_QUICK", "0") not in ("", "0")
"""Whether only the small table is measured, in about five minutes."""


def results(name: str) -> Path:
    """The file of a benchmark's results; the results of a quick run are not part of the repository."""
    folder = ROOT / "benchmarks" / "results"
    return (folder / "local" if QUICK else folder) / f"{name}.json"


def folders() -> tuple[Path, Path]:
    """The data folder, and the folder for checkpoints and measurements; sets torch to use every CPU."""
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    folder = home().parent / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)
    return Path(os.environ["RERANK_DATA"]), folder


def drift(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference of a score from ours, relative where ours is above 1."""
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(ours, theirs, strict=True))


def read(state: Path) -> list[dict[str, Any]]:
    """The measurements of earlier runs; none where the file does not exist."""
    lines = state.read_text(encoding="utf-8").splitlines() if state.exists() else []
    return [json.loads(line) for line in lines]


def append(state: Path, entry: dict[str, Any]) -> None:
    """Store one measurement, so that an interrupted run continues after it."""
    with state.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the results of a benchmark as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    """Hardware and versions that the timings depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    versions = {"threads": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    return {"cpu": cpu, **gpu, **versions}
