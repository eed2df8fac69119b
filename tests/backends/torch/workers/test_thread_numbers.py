"""Batches compute with the number of threads that the user asked for, also where it is 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import Reranker
from rerank_core.testing import tiny_cross_encoder


def numbers(reranker: Reranker, documents: int) -> set[int]:
    """torch's number of threads in every forward pass of a call."""
    seen: set[int] = set()
    scorer: Any = reranker.scorer
    hook = scorer.module.register_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads()))
    try:
        reranker.rerank("which one", [f"number {at} " * (at + 1) for at in range(documents)])
    finally:
        hook.remove()
    return seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_cross_encoder(tmp_path_factory.mktemp("threads"), "bert")


@pytest.mark.parametrize("documents", [1, 30])
def test_one_thread_is_one_thread(folder: Path, documents: int) -> None:
    """Whatever torch's own number in the calling thread is, and it is left as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with rerank_core.load(folder, device="cpu", threads=1, token_budget=64) as reranker:
            assert numbers(reranker, documents) == {1}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_calling_thread_computes_where_it_has_one_thread(folder: Path) -> None:
    """So that callers who divide the cores themselves do not wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with rerank_core.load(folder, device="cpu") as reranker:
            scorer: Any = reranker.scorer
            assert scorer.workers == 0
            assert numbers(reranker, 3) == {1}
    finally:
        torch.set_num_threads(before)
