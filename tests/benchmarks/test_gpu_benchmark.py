"""The GPU benchmark runs from end to end in small on a CPU, plans its time, and says so where there is no GPU."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from helpers.forked import run_python
from helpers.scripts import module_of

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


WAYS = {"packed", "padded", "two threads", "Hugging Face"}


def test_quick_run_measures_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cross-encoders and causal models, in every way there is, and in float32 all give Hugging Face's scores; workers
    beside processes. The results lie in $OUT."""
    monkeypatch.setenv("OUT", str(tmp_path))
    done = run_python(str(SCRIPT), "--device", "cpu", "--quick")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    rows = result["rows"]

    found: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        found.setdefault((row["shape"], row["dtype"]), set()).add(row["way"].partition(",")[0])
    more = {"from texts", "sentence-transformers"} if find_spec("sentence_transformers") else set()
    for dtype in ("bfloat16", "float32"):
        assert found.pop(("2 x 64", dtype)) == WAYS | more
        assert found.pop(("Qwen3 2 x 64", dtype)) == WAYS | more
        assert found.pop(("Gemma 2 x 64", dtype)) == WAYS
    assert not found
    assert all(row["of peak"] > 0 and row["tokens/s"] > 0 for row in rows)
    assert max(row["off"] for row in rows if row["dtype"] == "float32") < 1e-3

    scaling = result["scaling"]
    assert [item["workers"] for item in scaling] == [2**power for power in range(len(scaling))]
    assert all(item["tokens/s"] > 0 and item["processes tokens/s"] > 0 for item in scaling)
    assert done.stdout.splitlines()[-1] == "left out: nothing"
    assert len(done.stdout.splitlines()) == len(rows) + 2 + len(scaling) + 1 + 1


def test_one_shape_can_be_asked_for() -> None:
    """And a name that is none is refused before anything is built."""
    done = run_python(str(SCRIPT), "--device", "cpu", "--quick", "--only", "2 x 64")
    assert {line[:12] for line in done.stdout.splitlines()[2:-1]} == {"2 x 64      "}
    wrong = run_python(str(SCRIPT), "--device", "cpu", "--quick", "--only", "Gemma")
    assert wrong.returncode == 2
    assert "no shape is called 'Gemma'" in wrong.stderr


def test_what_does_not_fit_into_the_time_is_printed() -> None:
    done = run_python(str(SCRIPT), "--device", "cpu", "--quick", "--minutes", "0.2", "--only", "2 x 64", "CPU")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "left out: 2 x 64 bfloat16, CPU float32, 2 x 64 float32"


@pytest.fixture
def parts(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    return {name: module_of(root / "benchmarks" / "parts" / "gpu" / f"{name}.py") for name in ("clock", "timing")}


def test_time_that_a_task_does_not_need_is_divided(parts: dict[str, ModuleType]) -> None:
    seconds = [0.0]
    clock = parts["clock"].Clock(100, lambda: seconds[0])
    assert clock.share([1, 2, 1]) == 25
    seconds[0] = 4
    assert clock.share([2, 1]) == 64
    seconds[0] = 101
    assert clock.left == clock.share([1]) == 0


def test_ways_are_left_out_when_time_is_short(parts: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two ways and one round are always measured; without a limit everything is."""
    timing: Any = parts["timing"]
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def way() -> list[float]:
        now[0] += 10
        return [1.0]

    def times(limit: float) -> dict[str, int]:
        ways = dict.fromkeys("abcd", way)
        measured = timing.measure(ways, torch.device("cpu"), 3, limit)
        return {name: len(each["times"]) for name, each in measured.items()}

    assert times(15) == {"a": 1, "b": 1}
    assert times(90) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert times(100) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert times(120) == {"a": 2, "b": 2, "c": 2, "d": 2}
    assert times(float("inf")) == {"a": 3, "b": 3, "c": 3, "d": 3}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so() -> None:
    """Exit code 2 and one line, before anything is built."""
    done = run_python(str(SCRIPT))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == ["no CUDA device here; --device cpu --quick runs a tiny version of everything"]
