"""Attention with dropout for training on a CPU: its gradient, the share it drops, and repetition by a seed."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from rerank_core.backends.torch.attention import dropout as dropout_attention
from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.packing import Packing


def parts(lengths: list[int], dtype: torch.dtype, heads: int = 3, width: int = 4) -> list[torch.Tensor]:
    """Queries, keys and values ``[heads, total, width]``."""
    torch.manual_seed(0)
    return [torch.randn(heads, sum(lengths), width, dtype=dtype, requires_grad=True) for _ in range(3)]


def groups(lengths: list[int]) -> tuple[tuple[int, int, int], ...]:
    return Packing.of(lengths, torch.device("cpu")).groups


@pytest.mark.parametrize("tile", [1, 20, 1 << 19], ids=["one head", "some rows", "a group"])
@pytest.mark.parametrize("sliding_window", [None, 3])
def test_its_gradient_is_right(monkeypatch: pytest.MonkeyPatch, tile: int, sliding_window: int | None) -> None:
    """The analytic gradient is the numeric one of the same draw, for any size of tile. The fast mode of torch compares
    them along random directions, and costs a tenth."""
    monkeypatch.setattr(dropout_attention, "_TILE", tile)
    lengths = [2, 2, 2, 5]

    def attend(*given: Any) -> torch.Tensor:
        torch.manual_seed(1)
        return dropout_attention.attend(*given, groups(lengths), AttentionCall(0.7, sliding_window, dropout=0.3))

    assert torch.autograd.gradcheck(attend, parts(lengths, torch.float64, heads=2, width=3), fast_mode=tile != 20)


@pytest.mark.parametrize("sliding_window", [None, 8])
def test_without_dropout_it_is_plain_attention(sliding_window: int | None) -> None:
    """With nothing dropped, output and gradient are those of SDPA over the same rows, to float32 rounding."""
    lengths = [5, 5, 30, 700]
    given = parts(lengths, torch.float32, heads=12, width=8)
    packing = Packing.of(lengths, torch.device("cpu"))
    found = dropout_attention.attend(*given, packing.groups, AttentionCall(8**-0.5, sliding_window))
    wide = [part[None] for part in given]
    expected = packing.attend(*wide, AttentionCall(sliding_window=sliding_window))[0]
    direction = torch.randn_like(expected)

    assert torch.allclose(found, expected, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(found, given, direction), torch.autograd.grad(expected, given, direction), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.1, 0.5])
def test_it_drops_the_share_that_it_is_told(dropout: float) -> None:
    """Of equal weights each is dropped or made larger by what is lost; as many as were asked, in every head alike."""
    length = 300
    query = torch.zeros(2, length, length)
    value = torch.eye(length).expand(2, length, length)
    torch.manual_seed(0)
    found = dropout_attention.attend(query, query, value, groups([length]), AttentionCall(1.0, dropout=dropout))
    kept = found > 0

    assert torch.allclose(found[kept], torch.tensor(1 / length / (1 - dropout)), rtol=1e-3)
    assert not found[~kept].any()
    assert (~kept).float().mean((0, 2)).tolist() == pytest.approx([dropout] * 2, abs=0.005)
    assert (kept[:, 0] != kept[:, 1]).any()


def test_a_seed_repeats_the_draw() -> None:
    """Scored again from the same state, a pass has the same dropout: what computing a group in parts rests on."""
    lengths = [7, 7, 9]
    given = parts(lengths, torch.float32)
    attend = functools.partial(dropout_attention.attend, *given, groups(lengths), AttentionCall(1.0, dropout=0.2))
    state = torch.get_rng_state()
    first, second = attend(), attend()
    torch.set_rng_state(state)

    assert torch.equal(first, attend())
    assert not torch.equal(first, second)


def test_sdpa_keeps_what_it_has_kernels_for() -> None:
    """Without dropout, and in other dtypes, nothing of this is used."""
    query = torch.zeros(1, 2, 3)
    assert dropout_attention.serves(query, 0.1)
    assert not dropout_attention.serves(query, 0.0)
    assert not dropout_attention.serves(query.bfloat16(), 0.1)
