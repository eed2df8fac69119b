"""Memory is bounded by the token budget, not by the number of documents."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.forked import run_python
from rerank_core.testing.checkpoints import tiny_cross_encoder

MEASURE = """
import random, resource, sys
import torch
import rerank_core

torch.set_num_threads(1)
reranker = rerank_core.load(sys.argv[1], device="cpu")
words = ["panda", "bamboo", "river", "bear", "eats", "city", "Paris", "the"]
draw = random.Random(0)
documents = [" ".join(draw.choice(words) for _ in range(600)) for _ in range(250)]
reranker.rerank("what is a panda?", documents[:1])

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

before = peak()
usage = reranker.rerank("what is a panda?", documents, longdoc="firstp").usage
print(usage.tokens, peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the peak is read by the resource module")
def test_documents_take_no_more_than_their_budget(tmp_path: Path) -> None:
    """250 documents x 512 tokens through two layers of 128: less than 150 MB beside the model. All rows in one batch
    take 471 MB."""
    folder = tiny_cross_encoder(tmp_path / "tiny", "xlm-roberta", hidden=128)
    script = tmp_path / "measure.py"
    script.write_text(MEASURE, encoding="utf-8")
    done = run_python(str(script), str(folder))
    assert done.returncode == 0, done.stderr
    tokens, grown = map(int, done.stdout.split())
    assert tokens == 250 * 512
    assert grown < 150 * 2**20
