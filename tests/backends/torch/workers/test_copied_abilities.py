"""Copies have the optional protocols of their scorers, and on GPUs each has a thread."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from rerank_core import InputError, Reranker
from rerank_core.backends.torch.workers import copied_abilities
from rerank_core.backends.torch.workers.copied_abilities import build_copies, copies_of
from rerank_core.index.protocols import EncodesTexts, Explains, Indexable, Storable
from rerank_core.planning.parallel import Parallel, Placed, compute_all
from rerank_core.scorer import Batch, ComparableTokens, Configurable, Output, Resumable, Scorer, Stackable, Templated
from rerank_core.testing import FakeCascade, FakeScorer, FakeSeparate, FakeTextScorer, fake_spec

PROTOCOLS = (
    ComparableTokens, Configurable, EncodesTexts, Explains, Indexable, Resumable, Stackable, Storable, Templated,
)  # fmt: skip
DOCS = [f"panda {number} eats " + "bamboo " * (number % 7) for number in range(40)]
GPUS = ["cuda:0", "cuda:1", "cuda:2"]


@pytest.mark.parametrize("make", [FakeScorer, FakeSeparate, lambda: FakeCascade([5, 2])], ids=["joint", "index", "by"])
def test_copies_have_the_protocols_of_their_scorers(make: Any) -> None:
    """Those and no others, and the scores of one scorer."""
    one, several = make(), copies_of([make() for _ in GPUS], GPUS)
    assert isinstance(several, Scorer)
    assert isinstance(several, Parallel)
    assert isinstance(several, Placed)
    for protocol in PROTOCOLS:
        assert isinstance(several, protocol) == isinstance(one, protocol)
    spec = fake_spec()
    expected, found = (Reranker.from_scorer(scorer, spec).rerank("panda eats", DOCS) for scorer in (one, several))
    assert [(hit.index, hit.score, hit.stage) for hit in found] == [(h.index, h.score, h.stage) for h in expected]


def test_a_cascade_goes_on_where_it_began() -> None:
    """Each copy resumes its own rows; the fake scorer's state holds them."""
    several = copies_of([FakeCascade([6, 3]) for _ in GPUS], GPUS)
    Reranker.from_scorer(several, fake_spec()).rerank("panda eats bamboo", DOCS)
    for copy in several.copies:
        assert isinstance(copy, FakeCascade)
        read = {row.doc for batch in copy.batches for row in batch.rows}
        assert read.issuperset(doc for docs in copy.resumed for doc in docs)
    assert sum(len(copy.batches) > 0 for copy in several.copies) == len(GPUS)


class Waiting(FakeScorer):
    """A fake scorer whose batches wait until one of every copy runs."""

    met: threading.Barrier

    def forward(self, batch: Batch) -> Output:
        self.met.wait(20)
        return super().forward(batch)


def test_every_gpu_computes_at_the_same_time() -> None:
    """Three copies, three threads that are not the caller's; each batch is on the copy that is free."""
    Waiting.met = threading.Barrier(3)
    several = copies_of([Waiting() for _ in GPUS], GPUS)
    threads = set()

    def compute(batch: Batch) -> Output:
        threads.add(threading.get_ident())
        return several.forward(batch)

    assert several.workers == 3
    compute_all(several, [Batch({}, [])] * 9, compute, lambda batch, output: None)

    assert len(threads) == 3
    assert threading.get_ident() not in threads
    assert [len(copy.batches) for copy in several.copies if isinstance(copy, Waiting)] == [3, 3, 3]


def test_work_of_a_copy_asks_for_no_threads() -> None:
    """As work of a CPU's worker: a scorer that calls another reranker computes in its own thread."""
    several = copies_of([FakeScorer(), FakeScorer()], GPUS[:2])
    assert several.submit(lambda: several.workers, alone=True).result(20) == 0


def test_each_device_has_its_own_budget() -> None:
    """Two GPUs compute twice the tokens of one; copies on one device share it."""
    sizes = {("cuda:0", "cuda:1"): 512, ("cuda:0", "cuda:0"): 256}
    for devices, budget in sizes.items():
        assert copies_of([FakeScorer(), FakeScorer()], devices).token_budget == budget


class Failing(FakeScorer):
    """A fake scorer that cannot be closed."""

    def close(self) -> None:
        super().close()
        raise OSError("a test's handle")


def test_every_copy_is_closed_also_after_an_error() -> None:
    """The error is raised when all are closed."""
    made = [Failing(), FakeScorer(), Failing()]
    with pytest.raises(OSError, match="handle"):
        copies_of(made, GPUS).close()
    assert all(copy.closed for copy in made)


@pytest.mark.parametrize("error", [InputError("no memory"), KeyboardInterrupt()], ids=["error", "stopped"])
def test_a_copy_that_cannot_be_made_closes_the_others(error: BaseException) -> None:
    """Their memory is free again; later copies use downloaded files only."""
    made: list[FakeScorer] = []
    later: list[bool] = []

    def build(device: str, is_later: bool) -> FakeScorer:
        later.append(is_later)
        if len(made) == 2:
            raise error
        made.append(FakeScorer())
        return made[-1]

    with pytest.raises(type(error)):
        build_copies(build, "cpu,cpu,cpu", "tiny")
    assert later == [False, True, True]
    assert [copy.closed for copy in made] == [True, True]


def test_scorers_of_whole_texts_take_one_device() -> None:
    """A remote API has no device, and a listwise model orders one list after the other."""
    with pytest.raises(InputError, match="'tiny' scores whole texts"):
        build_copies(lambda device, later: FakeTextScorer(), "cpu,cpu", "tiny")


def test_embeddings_move_with_all_their_parts() -> None:
    """Each part keeps its lengths; the meta device stands for another GPU."""
    lengths: Sequence[tuple[int, int]] = [(2, 1), (5, 1), (3, 1)]
    rows = [{"vectors": torch.rand(a, 4), "pooled": torch.rand(b, 4)} for a, b in lengths]
    there = copied_abilities.moved(rows, torch.device("meta"))
    assert [(len(row["vectors"]), len(row["pooled"])) for row in there] == list(lengths)
    assert {part.device.type for row in there for part in row.values()} == {"meta"}
    back = copied_abilities.moved(rows, torch.device("cpu"))
    assert all(bool((a[name] == b[name]).all()) for a, b in zip(rows, back, strict=True) for name in a)
