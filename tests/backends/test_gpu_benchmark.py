"""The GPU benchmark runs from end to end in small on a CPU, and says so plainly where there is no GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, with one thread: models this small gain nothing from more."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_quick_run_measures_every_way(tmp_path: Path) -> None:
    """Every way is there, and in float32 all give Hugging Face's scores."""
    file = tmp_path / "rows.json"
    done = run("--device", "cpu", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]

    assert {(row["dtype"], row["way"].partition(",")[0]) for row in rows} == {
        (dtype, way) for dtype in ("bfloat16", "float32") for way in ("packed", "padded", "Hugging Face")
    }
    assert all(row["of peak"] > 0 and row["tokens/s"] > 0 for row in rows)
    assert max(row["off"] for row in rows if row["dtype"] == "float32") < 1e-3
    assert len(done.stdout.splitlines()) == len(rows) + 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    """Exit code 2 and one line, before anything is built."""
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["no CUDA device here; --device cpu --quick runs a tiny version of everything"]
