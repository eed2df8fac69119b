"""Two threads that share one GPU: the same scores, and two batches at a time. Without a GPU, a scorer on the CPU that
is treated as one of a GPU."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import Reranker
from rerank_core.testing import tiny_cross_encoder

QUERY = "what is a panda?"
DOCS = [f"text number {number} " + "about bears " * (number % 9) for number in range(40)]
ON_GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


def loaded(folder: Path, device: str, **options: Any) -> Reranker:
    reranker = rerank_core.load(folder, device=device, token_budget=200, **options)
    scorer: Any = reranker.scorer
    if device == "cpu":
        scorer.__class__ = type("OnGpu", (type(scorer),), {"_kind": "cuda"})
    return reranker


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_cross_encoder(tmp_path, "bert")


@pytest.mark.parametrize("device", ["cpu", ON_GPU])
def test_two_threads_give_the_scores_of_one(folder: Path, device: str) -> None:
    one, two = (loaded(folder, device, threads=threads) for threads in (1, 2))
    assert (one.scorer.workers, two.scorer.workers) == (0, 2)  # type: ignore[union-attr]
    assert loaded(folder, device).scorer.workers == 0  # type: ignore[union-attr]
    expected = [hit.score for hit in one.rerank(QUERY, DOCS)]
    for _ in range(3):
        assert [hit.score for hit in two.rerank(QUERY, DOCS)] == pytest.approx(expected, abs=1e-6)


def test_two_batches_are_computed_at_a_time(folder: Path) -> None:
    """Each forward pass waits for a second one to begin."""
    reranker = loaded(folder, "cpu", threads=2)
    met, names = threading.Barrier(2), set()

    def wait(*_: object) -> None:
        names.add(threading.current_thread().name.rpartition("_")[0])
        met.wait(timeout=60)

    hook = reranker.scorer.module.register_forward_pre_hook(wait)  # type: ignore[union-attr]
    reranker.rerank(QUERY, ["a bear", "a bear and another bear " * 8])
    hook.remove()
    assert names == {"rerank-cpu"}


def test_other_devices_keep_the_calling_thread(folder: Path) -> None:
    """Several threads on one of Apple's GPUs were not tried."""
    scorer: Any = loaded(folder, "cpu", threads=2).scorer
    type(scorer)._kind = "mps"
    assert scorer.workers == 0
