"""The GPU benchmark runs from end to end in small on a CPU, and says so plainly where there is no GPU."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from helpers.forked import run_python

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


WAYS = {"packed", "padded", "Hugging Face"}


def test_quick_run_measures_every_way(tmp_path: Path) -> None:
    """Cross-encoders and causal models, in every way there is, and in float32 all give Hugging Face's scores."""
    file = tmp_path / "rows.json"
    done = run_python(str(SCRIPT), "--device", "cpu", "--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text(encoding="utf-8"))["rows"]

    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        found.setdefault((row["shape"], row["dtype"]), set()).add(row["way"].partition(",")[0])
    more = {"from texts", "sentence-transformers"} if find_spec("sentence_transformers") else set()
    for dtype in ("bfloat16", "float32"):
        assert found.pop(("2 x 64", dtype)) == WAYS
        assert found.pop(("Qwen3 2 x 64", dtype)) == WAYS | more
        assert found.pop(("Gemma 2 x 64", dtype)) == WAYS
    assert not found
    assert all(row["of peak"] > 0 and row["tokens/s"] > 0 for row in rows)
    assert max(row["off"] for row in rows if row["dtype"] == "float32") < 1e-3
    assert len(done.stdout.splitlines()) == len(rows) + 2


def test_one_shape_can_be_asked_for() -> None:
    """And a name that is none is refused before anything is built."""
    done = run_python(str(SCRIPT), "--device", "cpu", "--quick", "--only", "2 x 64")
    assert {line[:12] for line in done.stdout.splitlines()[2:]} == {"2 x 64      "}
    wrong = run_python(str(SCRIPT), "--device", "cpu", "--quick", "--only", "Gemma")
    assert wrong.returncode == 2
    assert "no shape is called 'Gemma'" in wrong.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    """Exit code 2 and one line, before anything is built."""
    done = run_python(str(SCRIPT))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["no CUDA device here; --device cpu --quick runs a tiny version of everything"]
