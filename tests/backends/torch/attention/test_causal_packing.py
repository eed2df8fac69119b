"""Attention of rows behind a shared prefix, against the plain formula on prefix and row joined."""

from __future__ import annotations

import itertools

import pytest
import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.causal_packing import CausalPacking

HEADS, KEY_HEADS, WIDTH = 6, 2, 8
PREFIXES = [5, 1, 9]
ROWS = [(0, 7), (2, 3), (0, 7), (0, 2), (2, 12), (1, 1), (0, 7)]


def plain(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, sliding_window: int | None, softcap: float | None
) -> torch.Tensor:
    """One row, ``[heads, length, width]``, token by token."""
    out = torch.zeros_like(q)
    for head, place in itertools.product(range(HEADS), range(q.shape[1])):
        first = 0 if sliding_window is None else max(0, place - sliding_window + 1)
        keys = k[head // (HEADS // KEY_HEADS), first : place + 1]
        weights = keys @ q[head, place] * scale
        if softcap is not None:
            weights = softcap * torch.tanh(weights / softcap)
        out[head, place] = torch.softmax(weights, 0) @ v[head // (HEADS // KEY_HEADS), first : place + 1]
    return out


def joined(packing: CausalPacking, part: torch.Tensor, row: int) -> torch.Tensor:
    """What a row sees of ``[heads, total, width]``: its prefix and itself."""
    start, length, prefix = packing.rows[row]
    before, shared = packing.prefixes[prefix]
    return torch.cat([part[:, before : before + shared], part[:, start : start + length]], dim=1)


@pytest.fixture
def packed() -> tuple[CausalPacking, torch.Tensor, torch.Tensor, torch.Tensor]:
    packing = CausalPacking.of(PREFIXES, ROWS, torch.device("cpu"))
    torch.manual_seed(0)
    shapes = ((HEADS, packing.total, WIDTH), (KEY_HEADS, packing.total, WIDTH), (KEY_HEADS, packing.total, WIDTH))
    query, key, value = (torch.randn(shape) for shape in shapes)
    return packing, query, key, value


@pytest.mark.parametrize("sliding_window", [None, 1, 4, 100])
@pytest.mark.parametrize("softcap", [None, 0.7])
def test_rows_see_their_prefix_and_themselves(
    packed: tuple[CausalPacking, torch.Tensor, torch.Tensor, torch.Tensor],
    sliding_window: int | None,
    softcap: float | None,
) -> None:
    """The fused kernel, and products where weights are capped; with windows, for every token and the last alone."""
    packing, query, key, value = packed
    call = AttentionCall(0.4, sliding_window, softcap)
    found = packing.attend(query[None], key[None], value[None], call)[0]
    ends = packing.attend_last(query[:, packing.last].transpose(0, 1), key, value, call)
    for row, (start, length, _) in enumerate(packing.rows):
        expected = plain(*(joined(packing, part, row) for part in (query, key, value)), 0.4, sliding_window, softcap)
        own = expected[:, -length:].transpose(0, 1)
        torch.testing.assert_close(found[start : start + length], own, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(ends[row], own[-1], rtol=1e-5, atol=1e-6)
    for start, length in packing.prefixes:
        inside = slice(start, start + length)
        expected = plain(query[:, inside], key[:, inside], value[:, inside], 0.4, sliding_window, softcap)
        torch.testing.assert_close(found[inside], expected.transpose(0, 1), rtol=1e-5, atol=1e-6)


def test_layout_counts_every_token_once_and_positions_go_on_after_the_prefix() -> None:
    packing = CausalPacking.of(PREFIXES, ROWS, torch.device("cpu"))
    assert packing.total == sum(PREFIXES) + sum(length for _, length in ROWS)
    places = sorted(
        place for start, length, *_ in [*packing.prefixes, *packing.rows] for place in range(start, start + length)
    )
    assert places == list(range(packing.total))
    for start, length, prefix in packing.rows:
        shared = packing.prefixes[prefix][1]
        assert packing.positions[0, start : start + length].tolist() == list(range(shared, shared + length))


def test_one_kernel_is_given_each_row_behind_its_prefix() -> None:
    """What variable-length attention gets on a GPU: bounds of queries, and for each row the keys of prefix and row."""
    packing = CausalPacking.of(PREFIXES, ROWS, torch.device("cpu"))
    made = packing._all_keys
    places, asked, read = made.positions, made.cu_seqlens_q, made.cu_seqlens_k
    pieces = sorted([*((start, length, None) for start, length in packing.prefixes), *packing.rows])
    for number, (start, length, prefix) in enumerate(pieces):
        assert asked[number : number + 2].tolist() == [start, start + length]
        before, shared = (0, 0) if prefix is None else packing.prefixes[prefix]
        own = places[int(read[number]) : int(read[number + 1])].tolist()
        assert own == [*range(before, before + shared), *range(start, start + length)]
    assert made.longest == (12, 21)


def test_last_tokens_are_given_each_row_in_the_callers_order() -> None:
    """One query a row, over the keys of its prefix and itself."""
    packing = CausalPacking.of(PREFIXES, ROWS, torch.device("cpu"))
    made = packing._last_keys
    assert made.cu_seqlens_q.tolist() == list(range(len(ROWS) + 1))
    for number, (start, length, prefix) in enumerate(packing.rows):
        before, shared = packing.prefixes[prefix]
        own = made.positions[int(made.cu_seqlens_k[number]) : int(made.cu_seqlens_k[number + 1])].tolist()
        assert own == [*range(before, before + shared), *range(start, start + length)]
    assert made.longest == (1, 21)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="variable-length attention runs on CUDA alone")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sliding_window", [None, 6])
def test_one_kernel_on_cuda_gives_what_groups_give(dtype: torch.dtype, sliding_window: int | None) -> None:
    """Fewer heads of keys, prefixes, windows, the last tokens alone, and gradients."""
    device = torch.device("cuda")
    ways = [CausalPacking.of(PREFIXES, ROWS, device, allow_varlen=one) for one in (True, False)]
    given = [
        torch.randn(1, heads, ways[0].total, 32, device=device, dtype=dtype, requires_grad=True) for heads in (4, 2, 2)
    ]
    near = 2e-3 if dtype == torch.float16 else 2e-2

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one - other).detach().float().norm() / other.detach().float().norm())

    call = AttentionCall(0.3, sliding_window)
    found = [way.attend(*given, call) for way in ways]
    assert apart(*found) < near
    above = torch.randn_like(found[0])
    for one, other in zip(*(torch.autograd.grad(out, given, above) for out in found), strict=True):
        assert apart(one, other) < near
    query, key, value = (part.detach()[0] for part in given)
    asked = query[:, ways[0].last].transpose(0, 1)
    assert apart(*(way.attend_last(asked, key, value, call) for way in ways)) < near
