"""MaxSim for training: values and gradients are those of a loop, in blocks of any size, and memory is bounded."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from rerank_core import InputError
from rerank_core.backends.torch.late_interaction import maxsim_gradient
from rerank_core.backends.torch.late_interaction.maxsim_gradient import maxsim_matrix, maxsim_own

WIDTH = 8


def sides(seed: int, *, dtype: torch.dtype = torch.float32, queries: int = 5, docs: int = 9) -> Any:
    """Ragged vectors of queries and documents, with their counts and the documents' owners."""
    rng = random.Random(seed)
    counts = [[rng.randint(1, 6) for _ in range(number)] for number in (queries, docs)]
    torch.manual_seed(seed)
    vectors = [
        torch.nn.functional.normalize(torch.randn(sum(of), WIDTH, dtype=dtype), dim=-1).requires_grad_()
        for of in counts
    ]
    return vectors[0], counts[0], vectors[1], counts[1], [rng.randrange(queries) for _ in range(docs)]


def by_loop(queries: Any, query_counts: Any, documents: Any, document_counts: Any, *, mean: bool) -> torch.Tensor:
    """MaxSim of every query with every document, one pair at a time."""
    rows = []
    for query in torch.split(queries, query_counts):
        best = [(query @ document.T).amax(dim=1) for document in torch.split(documents, document_counts)]
        rows.append(torch.stack([one.mean() if mean else one.sum() for one in best]))
    return torch.stack(rows)


def check(scores: torch.Tensor, expected: torch.Tensor, queries: torch.Tensor, documents: torch.Tensor) -> None:
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-6)
    weights = torch.randn_like(expected)
    slow = torch.autograd.grad((expected * weights).sum(), [queries, documents])
    fast = torch.autograd.grad((scores * weights).sum(), [queries, documents])
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("room", [1, 40, 1 << 20])
def test_every_query_with_every_document(monkeypatch: pytest.MonkeyPatch, mean: bool, room: int) -> None:
    """Values and gradients of a loop over pairs, however small the blocks are."""
    monkeypatch.setattr(maxsim_gradient, "_BLOCK", {"cpu": room})
    monkeypatch.setattr(maxsim_gradient, "_QUERY_VECTORS", max(1, room // 4))
    for seed in range(5):
        queries, query_counts, documents, document_counts, _ = sides(seed)
        arguments = queries, query_counts, documents, document_counts
        check(maxsim_matrix(*arguments, mean=mean), by_loop(*arguments, mean=mean), queries, documents)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("room", [1, 1 << 20])
def test_each_document_with_its_own_query(monkeypatch: pytest.MonkeyPatch, mean: bool, room: int) -> None:
    """The scores of the matrix at the documents' own queries; a query without documents gets no gradient."""
    monkeypatch.setattr(maxsim_gradient, "_BLOCK", {"cpu": room})
    for seed in range(5):
        queries, query_counts, documents, document_counts, owner = sides(seed)
        arguments = queries, query_counts, documents, document_counts
        expected = by_loop(*arguments, mean=mean)[owner, range(len(owner))]
        check(maxsim_own(*arguments, owner, mean=mean), expected, queries, documents)


def test_gradcheck() -> None:
    """The gradient is that of finite differences, in float64."""
    queries, query_counts, documents, document_counts, owner = sides(3, dtype=torch.float64, queries=3, docs=4)
    for mean in (False, True):
        assert torch.autograd.gradcheck(
            lambda q, d, mean=mean: maxsim_matrix(q, query_counts, d, document_counts, mean=mean), (queries, documents)
        )
        assert torch.autograd.gradcheck(
            lambda q, d, mean=mean: maxsim_own(q, query_counts, d, document_counts, [o % 3 for o in owner], mean=mean),
            (queries, documents),
        )


def test_gradient_of_one_side() -> None:
    """Vectors that need no gradient, such as those of other processes, get none."""
    queries, query_counts, documents, document_counts, _ = sides(1)
    fixed = documents.detach()
    maxsim_matrix(queries, query_counts, fixed, document_counts, mean=False).sum().backward()
    assert queries.grad is not None
    assert fixed.grad is None


def test_negative_similarities_win_over_no_padding() -> None:
    """A document whose similarities are all negative keeps its negative maximum."""
    queries = torch.ones(1, WIDTH)
    documents = -torch.ones(3, WIDTH)
    assert maxsim_matrix(queries, [1], documents, [1, 2], mean=False).tolist() == [[-WIDTH, -WIDTH]]


def test_autocast_does_not_lower_the_precision() -> None:
    """Similarities of a mixed-precision step are computed in float32."""
    queries, query_counts, documents, document_counts, _ = sides(2)
    arguments = queries, query_counts, documents, document_counts
    with torch.autocast("cpu", torch.bfloat16):
        lower = maxsim_matrix(*arguments, mean=False)
    assert torch.equal(lower, maxsim_matrix(*arguments, mean=False))


def test_no_tensor_of_similarities_is_kept() -> None:
    """No tensor is larger than a block, and 4 bytes a query vector and document stay for the backward pass."""
    torch.manual_seed(0)
    queries = torch.randn(64 * 16, WIDTH, requires_grad=True)
    documents = torch.randn(300 * 100, WIDTH, requires_grad=True)
    sizes: list[int] = []

    class Measured(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            sizes.extend(
                one.numel()
                for one in (result if isinstance(result, (tuple, list)) else [result])
                if isinstance(one, torch.Tensor)
            )
            return result

    kept: list[int] = []
    with (
        Measured(),
        torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel() * tensor.element_size()) or tensor, lambda tensor: tensor
        ),
    ):
        scores = maxsim_matrix(queries, [16] * 64, documents, [100] * 300, mean=False)
        scores.sum().backward()
    vectors = 4 * (queries.numel() + documents.numel())
    positions = 4 * len(queries) * 300
    assert max(sizes) <= maxsim_gradient._BLOCK["cpu"]
    assert sum(kept) <= vectors + positions + 16 * scores.numel()


@pytest.mark.parametrize(
    ("query_counts", "document_counts", "owner"),
    [([2, 1], [2], [0]), ([1, 1], [2, 0], [0, 1]), ([2], [2], [1]), ([2], [2], [0, 0]), ([2], [2], [-1])],
)
def test_wrong_counts_are_refused(query_counts: list[int], document_counts: list[int], owner: list[int]) -> None:
    vectors = torch.ones(2, WIDTH)
    with pytest.raises(InputError, match=r"counts|owners"):
        maxsim_own(vectors, query_counts, vectors, document_counts, owner, mean=False)


def test_nothing_to_compare() -> None:
    none = torch.zeros(0, WIDTH)
    assert maxsim_matrix(none, [], torch.ones(2, WIDTH), [2], mean=False).shape == (0, 1)
    assert maxsim_matrix(torch.ones(2, WIDTH), [2], none, [], mean=True).shape == (1, 0)
    assert maxsim_own(none, [], none, [], [], mean=True).shape == (0,)
