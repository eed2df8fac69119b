"""The memory that a process keeps after many requests of different lengths."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import forked
from rerank_core.backends.torch import process_memory
from rerank_core.testing import tiny_cross_encoder

GROWN = """
import ctypes, random, sys, torch
import rerank_core
from rerank_core.scorer import Batch, Row
torch.set_num_threads(1)
scorer = rerank_core.load(sys.argv[1], device="cpu").scorer
draw = random.Random(0)

def resident():
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def scored(length):
    ids = draw.choices(range(5, 200), k=length)
    return scorer.forward(Batch({}, [Row(0, 0, 0, ids, [0] * length, (0, length), (0, length))]))

scored(10)
before = resident()
for length in draw.sample(range(3, 503), 300):
    scored(length)
print(resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_bounded_over_many_lengths(tmp_path: Path) -> None:
    """300 requests of one document, each of another length: kernels of earlier lengths are not all kept. They take
    50 MB, and 166 MB if torch keeps 1,024."""
    script = tmp_path / "grown.py"
    script.write_text(GROWN, encoding="utf-8")
    folder = tiny_cross_encoder(tmp_path / "model", "bert", hidden=64, layers=1)
    environment = {name: os.environ[name] for name in os.environ if not name.endswith(("_NUM_THREADS", "_CAPACITY"))}
    done = forked.run([sys.executable, str(script), str(folder)], env=environment)

    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout) < 100


FREED = """
import sys, torch
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    from rerank_core.backends.torch import process_memory
    assert process_memory.keep_freed_memory()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

def kept_of(blocks):
    before = resident()
    held = [torch.ones(2**21) for _ in range(blocks)]
    del held
    return resident() - before

print(kept_of(12))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="its limits are glibc's")
@pytest.mark.parametrize(("name", "least", "most"), [("kept", 80, 110), ("default", -1, 60)])
def test_freed_memory_is_kept(name: str, least: int, most: int) -> None:
    """Of 12 results of 8 MB each, nearly all memory is kept for the next ones; by default little is."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FREED, name], capture_output=True, text=True, env=environment, check=True
    )

    assert least <= float(done.stdout) <= most


IN_PIECES = """
from rerank_core.backends.torch import process_memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

held = [bytearray(8192) for _ in range(20_000)]
held = held[::2]  # no freed piece is at the end of the memory
before = resident()
process_memory.return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries return it themselves")
def test_memory_that_was_freed_in_pieces_is_returned() -> None:
    """Of 80 MB in pieces of 8 kB, the whole pages."""
    done = subprocess.run([sys.executable, "-c", IN_PIECES], capture_output=True, text=True, check=True)
    assert float(done.stdout) > 30


def test_the_users_own_limits_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set in the environment, as glibc documents."""
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")

    assert not process_memory.keep_freed_memory.__wrapped__()
