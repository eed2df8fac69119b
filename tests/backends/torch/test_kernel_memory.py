"""What a process keeps of a thousand requests of ever new lengths."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
for _ in range(1000):
    scored(draw.randint(3, 500))
print(resident() - before)
"""


def run(code: str, folder: Path, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.endswith(("_NUM_THREADS", "_CAPACITY"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder)],
        capture_output=True, text=True, timeout=400, env={**kept, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_bounded_over_a_thousand_lengths(tmp_path: Path) -> None:
    """1,000 requests of one document of any length: kernels of lengths past are not all kept. Kept, they are 240 MB."""
    assert float(run(GROWN, tiny_cross_encoder(tmp_path, "bert", hidden=64, layers=1))) < 120
