"""The arithmetic of an index: MaxSim over documents end to end, and vectors in a quarter of their bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core.backends.torch.late_interaction import maxsim as module
from rerank_core.backends.torch.late_interaction import residual_coding
from rerank_core.backends.torch.late_interaction.embeddings import compressed, gather
from rerank_core.backends.torch.late_interaction.maxsim_gradient import maxsim_own
from rerank_core.backends.torch.late_interaction.store.memory import block_of
from rerank_core.errors import NonFiniteScoreError
from rerank_core.index.protocols import StoredText, StoredWindow

WIDTH = 128


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    asked=st.integers(1, 6),
    block=st.integers(1, 60),
    seed=st.integers(0, 2**16),
    ordered=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_maxsim_is_that_of_each_document_alone(
    lengths: list[int], asked: int, block: int, seed: int, ordered: bool
) -> None:
    """Wherever blocks end, each document has its own maxima, as in training; every vector is read once, in full
    blocks."""
    lengths = sorted(lengths) if ordered else lengths
    dice = torch.Generator().manual_seed(seed)
    query = torch.randn(asked, 4, generator=dice)
    documents = [torch.randn(length, 4, generator=dice) for length in lengths]
    flat = torch.cat(documents)
    read: list[tuple[int, int]] = []

    def vectors(start: int, stop: int) -> torch.Tensor:
        read.append((start, stop))
        return flat[start:stop]

    with mock.patch.dict(module._BLOCK, {"cpu": block}):
        found = module.maxsim(query, vectors, lengths)

    expected = torch.stack([(query @ own.T).amax(dim=1) for own in documents])
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    trained = maxsim_own(query, [asked], flat, lengths, [0] * len(lengths), mean=False)
    assert torch.allclose(found.sum(dim=1), trained, rtol=0, atol=1e-5)
    assert [start for start, _ in read] == [0, *(stop for _, stop in read[:-1])]
    assert read[-1][1] == len(flat)
    sizes = [stop - start for start, stop in read]
    assert max(sizes) < max(1, block // asked) + max(lengths)
    assert min(sizes[:-1], default=block) >= block // asked


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=12),
    chosen=st.lists(st.integers(0, 11), max_size=14),
    precision=st.sampled_from(["float32", "float16", "int8"]),
)
@settings(deadline=None, max_examples=200)
def test_rows_of_a_block_are_picked_as_they_are(lengths: list[int], chosen: list[int], precision: str) -> None:
    """Any rows, some of them twice, come out in order, each with its own values."""
    dice = torch.Generator().manual_seed(len(lengths))
    rows = [torch.nn.functional.normalize(torch.randn(length, 8, generator=dice), dim=-1) for length in lengths]
    block, order = gather([{"vectors": row} for row in rows])
    block, (_, most, _) = compressed(block, precision)
    numbers = sorted(number for number in chosen if number < len(rows))
    picked = block.part("vectors", numbers)

    assert sorted(order) == list(range(len(rows)))
    assert picked.lengths == [len(rows[order[number]]) for number in numbers]
    for own, number in zip(torch.split(picked.all(), picked.lengths), numbers, strict=True):
        assert float((own - rows[order[number]]).norm(dim=-1).max()) <= most + 1e-6


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def clustered(count: int, centres: int, spread: float) -> torch.Tensor:
    """Unit vectors about so many centres, ``spread`` from them."""
    dice = torch.Generator().manual_seed(count)
    middle = unit(torch.randn(centres, WIDTH, generator=dice))[torch.randint(centres, (count,), generator=dice)]
    return unit(middle + spread * unit(torch.randn(count, WIDTH, generator=dice)))


def halves(count: int) -> torch.Tensor:
    """Vectors of which the second half lies elsewhere than the first, as documents sorted by length may."""
    return torch.cat([clustered(count // 2, 60, 0.2), clustered(count - count // 2, 61, 0.2)])


VECTORS: dict[str, Callable[[], torch.Tensor]] = {
    "one": lambda: clustered(1, 1, 0.1),
    "two": lambda: clustered(2, 2, 0.1),
    "equal": lambda: clustered(1, 1, 0.1).expand(500, WIDTH).clone(),
    "zeros": lambda: torch.zeros(500, WIDTH),
    "a zero among others": lambda: torch.cat([clustered(300, 20, 0.3), torch.zeros(1, WIDTH)]),
    "opposite": lambda: torch.cat([clustered(50, 1, 0.1), -clustered(50, 1, 0.1)]),
    "clustered": lambda: clustered(5000, 200, 0.3),
    "alike": lambda: clustered(300, 1, 1e-2),
    "very alike": lambda: clustered(300, 1, 1e-3),
    "all but equal": lambda: clustered(300, 1, 1e-5),
    "anywhere": lambda: clustered(3000, 3000, 1.0),
    "long": lambda: 1000 * clustered(500, 20, 0.3),
}


@pytest.mark.parametrize("name", VECTORS)
def test_no_value_is_further_off_than_half_a_step(name: str) -> None:
    """Of 127 steps to the largest value of what its centroid leaves over, a value is off by half of one."""
    vectors = VECTORS[name]()
    data, coding = residual_coding.encode(vectors)
    centroids = coding.centroids[coding.codes.long()]
    step = (vectors - centroids).abs().amax(dim=1, keepdim=True) / 127
    found = residual_coding.decode(data, coding, slice(0, len(vectors)))

    assert data.dtype == torch.int8
    assert data.shape == vectors.shape
    assert len(coding.centroids) <= 256
    # Steps below float16's smallest are none, and its rounding and float32's come on top.
    assert bool(((found - vectors).abs() <= 0.51 * step + 127 * 2**-25 + 1e-6 * vectors.abs().amax()).all())
    distances = torch.cdist(vectors.double(), coding.centroids.double())
    nearest = distances.gather(1, coding.codes.long()[:, None]).squeeze(1)
    assert torch.allclose(nearest, distances.amin(dim=1), rtol=1e-4, atol=1e-3 * float(vectors.abs().amax()))


def test_int8_takes_a_quarter_and_hardly_moves_vectors() -> None:
    """Thousands of vectors take about a quarter of float32's bytes, centroids included."""
    vectors = clustered(20_000, 400, 0.5)
    data, coding = residual_coding.encode(vectors)
    held = sum(own.nbytes for own in (data, coding.centroids, coding.codes, coding.scales))
    moved = (residual_coding.decode(data, coding, slice(0, len(vectors))) - vectors).norm(dim=-1)

    assert 0.25 < held / vectors.nbytes < 0.28
    assert 0 < float(moved.max()) < 0.02


def test_encoding_is_the_same_every_time_and_decodes_anywhere() -> None:
    """Nothing is drawn by chance, and a part decodes as it does in the whole."""
    vectors = clustered(2000, 50, 0.5)
    (data, coding), (again, other) = residual_coding.encode(vectors), residual_coding.encode(vectors.clone())
    whole = residual_coding.decode(data, coding, slice(0, 2000))
    places = torch.tensor([1999, 0, 7, 7])

    assert torch.equal(data, again)
    assert all(torch.equal(getattr(coding, name), getattr(other, name)) for name in ("centroids", "codes", "scales"))
    assert torch.equal(residual_coding.decode(data[5:9], coding, slice(5, 9)), whole[5:9])
    assert torch.equal(residual_coding.decode(data[places], coding, places), whole[places])


@pytest.mark.parametrize("count", [4_096, 8_191, 8_192])
def test_centroids_are_of_all_vectors(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are beside the size of a sample, the last vectors are no further off than the first."""
    monkeypatch.setattr(residual_coding, "_SAMPLE", 4_096)
    vectors = halves(count)
    data, coding = residual_coding.encode(vectors)
    moved = (residual_coding.decode(data, coding, slice(0, count)) - vectors).norm(dim=-1)

    assert float(moved[count // 2 :].mean()) < 1.5 * float(moved[: count // 2].mean())


@pytest.mark.parametrize("values", [[1.0, math.nan], [math.inf, 1.0], [-math.inf, math.inf], [1.0, -math.inf]])
def test_a_vector_that_no_query_could_be_compared_with_is_refused(values: list[float]) -> None:
    texts = {b"a": StoredText([StoredWindow((0, 1), (0, 1), {"vectors": torch.tensor([values, [0.0, 0.0]])})], False)}
    with pytest.raises(NonFiniteScoreError, match="among the vectors"):
        block_of(texts)


def test_large_numbers_are_numbers() -> None:
    """Their sum is not, in float16 or float32."""
    for largest in (torch.finfo(torch.float16).max, torch.finfo(torch.float32).max):
        dtype = torch.float16 if largest < 1e5 else torch.float32
        vectors = torch.full((4, 2), largest, dtype=dtype)
        block, _ = block_of({b"a": StoredText([StoredWindow((0, 1), (0, 1), {"vectors": vectors})], False)})
        assert torch.equal(block.parts["vectors"].data, vectors)
