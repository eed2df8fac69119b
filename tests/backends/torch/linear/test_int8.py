"""``dtype="int8"``: nearly the scores of float32, and the same with any neighbours in the batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import rerank_core
from helpers.plain import LONG, QUERIES, TEXTS
from rerank_core import InputError, Reranker
from rerank_core.backends.torch.linear.int8 import Int8Linear, _quantized
from rerank_core.testing.checkpoints import Family

DOCUMENTS = [*TEXTS, LONG]


@pytest.fixture(scope="module", params=["xlm-roberta", "bert"])
def folder(request: pytest.FixtureRequest, made: Callable[[Family], Path]) -> Path:
    """A tiny cross-encoder of each family; products in int8 do not depend on its vocabulary."""
    return made(request.param)


@pytest.fixture(scope="module")
def int8(folder: Path) -> Reranker:
    return rerank_core.load(folder, device="cpu", dtype="int8")


def spread(scores: list[float]) -> float:
    return torch.tensor(scores).std().item()


def test_scores_are_nearly_those_of_float32(folder: Path, int8: Reranker) -> None:
    """Off by less than the scores' own spread (random weights are noise), and off at all: int8 computed them."""
    float32 = rerank_core.load(folder, device="cpu")
    for query in QUERIES:
        exact, rounded = float32.rerank(query, DOCUMENTS).scores(), int8.rerank(query, DOCUMENTS).scores()
        off = [abs(a - b) for a, b in zip(exact, rounded, strict=True)]
        assert 0 < max(off) < spread(exact)


def test_the_largest_products_are_exact() -> None:
    """Rows of the largest bytes and weights give the sum of float32. A CPU without VNNI cuts such sums off where the
    weights are rounded to 127."""
    linear = torch.nn.Linear(96, 48, bias=False)
    torch.nn.init.constant_(linear.weight, 0.5)
    x = torch.ones(5, 96)
    x[:, 0] = 0.0

    assert torch.allclose(Int8Linear(linear)(x), linear(x), rtol=1e-5)


@pytest.mark.parametrize(
    "row",
    [[0.0] * 32, [3.0] * 32, [-3.0] * 32, [1e-30] * 32, [1e30, -1e30] * 16, [0.1, *[0.0] * 31], list(range(-9, 23))],
    ids=["zeros", "positive", "negative", "tiny", "huge", "one value", "integers"],
)
def test_any_row_is_off_by_a_step_at_most(row: list[float]) -> None:
    """Each value is rounded to the nearest of 254 steps of the token's range, zero included."""
    x = torch.tensor([row, *torch.randn(3, 32).tolist()])
    bytes_, steps, offsets = _quantized(x)
    apart = (bytes_.float() * steps + offsets - x).abs()

    assert bool((apart <= 1.01 * steps).all())
    assert bool((apart[x == 0] == 0).all())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_finite_number_is_made_of_another(value: float) -> None:
    """A NaN or infinity stays one, so that it is reported."""
    x = torch.zeros(2, 32)
    x[1, 3] = value
    out = Int8Linear(torch.nn.Linear(32, 16))(x)

    assert bool(torch.isfinite(out[0]).all())
    assert not bool(torch.isfinite(out[1]).any())


def test_a_score_depends_on_no_neighbour(int8: Reranker) -> None:
    """Alone, in another order and in other batches: the same to rounding in float32."""
    together = int8.rerank(QUERIES[0], DOCUMENTS).scores()
    backwards = int8.rerank(QUERIES[0], DOCUMENTS[::-1]).scores()[::-1]
    alone = [int8.rerank(QUERIES[0], [document]).scores()[0] for document in DOCUMENTS]
    assert together == pytest.approx(backwards, abs=1e-5)
    assert together == pytest.approx(alone, abs=1e-5)


def test_threads_do_not_mix_their_rows(int8: Reranker) -> None:
    expected = [int8.rerank(query, DOCUMENTS).scores() for query in QUERIES]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda query: int8.rerank(query, DOCUMENTS).scores(), [*QUERIES] * 4))
    for place, scores in enumerate(found):
        assert scores == pytest.approx(expected[place % len(QUERIES)], abs=1e-5)


def test_the_head_stays_float32_and_the_encoder_does_not(int8: Reranker) -> None:
    """Weights of the encoder are bytes, and their float32 copies are gone."""
    module = int8.scorer.module
    encoder, head = module.base_model.encoder, module.classifier
    assert not [part for part in encoder.modules() if type(part) is torch.nn.Linear]
    assert [part for part in encoder.modules() if isinstance(part, Int8Linear)]
    assert all(type(part) is not Int8Linear for part in head.modules())
    assert all(parameter.dim() < 2 for parameter in encoder.parameters())


def test_padding_does_not_matter_either(made: Callable[[Family], Path]) -> None:
    """Each token has its own range, so the padded path gives what the packed one does."""
    int8 = rerank_core.load(made("bert"), device="cpu", dtype="int8")
    packed = int8.rerank(QUERIES[0], DOCUMENTS).scores()
    int8.scorer.packed = False
    assert int8.rerank(QUERIES[0], DOCUMENTS).scores() == pytest.approx(packed, abs=1e-5)


def test_another_device_is_refused(made: Callable[[Family], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """So is a torch without the operators, which this test simulates."""
    monkeypatch.setattr("rerank_core.backends.torch.linear.int8.available", lambda: False)
    with pytest.raises(InputError, match="it needs the CPU"):
        rerank_core.load(made("bert"), device="cpu", dtype="int8")
