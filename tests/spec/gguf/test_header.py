"""GGUF headers: what a valid file says, and that an altered one is a typed error without a large allocation."""

from __future__ import annotations

import random
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from helpers.gguf.raw import gguf_bytes, text, value
from rerank_core import CheckpointError
from rerank_core.spec.gguf.choice import gguf_of
from rerank_core.spec.gguf.header import read_header

META: dict[str, Any] = {
    "general.architecture": "qwen3",
    "qwen3.block_count": 2,
    "qwen3.attention.layer_norm_rms_epsilon": 1e-6,
    "tokenizer.ggml.tokens": ["yes", "no", "熊猫"],
    "tokenizer.ggml.scores": [0.5, -1.0, 2.0],
    "tokenizer.ggml.add_bos_token": False,
}
TENSORS = [("token_embd.weight", [32, 3], 8, 0), ("output_norm.weight", [32], 0, 128)]
DATA = bytes(range(256))


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_header(tmp_path: Path) -> None:
    """Values by key, numbers as they were meant, and the place of each tensor with its rows first."""
    file = written(tmp_path / "m.gguf", gguf_bytes(META, TENSORS, DATA))
    header = read_header(file)
    assert header.architecture == "qwen3"
    assert dict(header.metadata) == META
    start = file.stat().st_size - len(DATA)
    embeddings, norm = header.tensors["token_embd.weight"], header.tensors["output_norm.weight"]
    assert (embeddings.type, embeddings.shape, embeddings.offset, embeddings.row_bytes) == ("Q8_0", (3, 32), start, 34)
    assert (norm.type, norm.shape, norm.offset, norm.row_bytes, norm.rows) == ("F32", (32,), start + 128, 128, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a GGUF file"),
        (b"PK\3\4" + bytes(100), "not a GGUF file"),
        (gguf_bytes(META, version=1), "version is 1; versions 2 and 3"),
        (gguf_bytes(META, version=4), "version is 4"),
        (gguf_bytes({}, order=">") + bytes(64), "big-endian"),
        (gguf_bytes({**META, "split.count": 3}), "split.count is 3"),
        (gguf_bytes({**META, "general.alignment": 24}), "power of 2"),
        (gguf_bytes({**META, "general.alignment": 0}), "power of 2"),
        (gguf_bytes({**META, "x": struct.pack("<I", 99)}) + bytes(64), "value type 99"),
        (gguf_bytes({**META, "x": struct.pack("<IIQ", 9, 9, 1)}) + bytes(64), "list of the value type 9"),
        (gguf_bytes({**META, "x": struct.pack("<IQ", 8, 1 << 60)}) + bytes(64), "bytes, and"),
        (gguf_bytes({**META, "x": struct.pack("<IIQ", 9, 8, 1 << 40)}) + bytes(64), "claims 1099511627776 entries"),
        (gguf_bytes({**META, "x": struct.pack("<IIQ", 9, 4, 3_000_000)}) + bytes(64), "claims 3000000 entries"),
        (gguf_bytes({**META, "x": struct.pack("<IQ", 8, 2) + b"\xff\xfe"}) + bytes(64), "no UTF-8"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * (text("a") + value(1)), "the key 'a' occurs twice"),
        (gguf_bytes(META, [("t", [32], 99, 0)], DATA), "tensor type 99, which is not read; these are: F32"),
        (gguf_bytes(META, [("t", [33], 8, 0)], DATA), "blocks of 32"),
        (gguf_bytes(META, [("t", [32, 0], 0, 0)], DATA), "no side of a tensor is 0"),
        (gguf_bytes(META, [("t", [1] * 5, 0, 0)], DATA), "5 dimensions"),
        (gguf_bytes(META, [("t", [65], 0, 0)], DATA), "outside of the file"),
        (gguf_bytes(META, [("t", [32], 0, 160)], DATA), "outside of the file"),
        (gguf_bytes(META, [("t", [1 << 62, 1 << 62], 0, 0)], DATA), "outside of the file"),
        (gguf_bytes(META, [("t", [2], 0, 4)], DATA), "outside of the file"),
        (gguf_bytes(META, [("t", [2], 0, 0)] * 2, DATA), "'t' occurs twice"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 50, 0) + bytes(64), "claims 1125899906842624 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 63) + bytes(64), "metadata values"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)  # fmt: skip
def test_a_header_that_cannot_be_true_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        read_header(written(tmp_path / "m.gguf", content))


def test_altered_copies_are_typed_errors_or_headers(tmp_path: Path) -> None:
    """300 copies, cut short or with some bytes changed: none raises another error or allocates much."""
    whole, chance, refused = gguf_bytes(META, TENSORS, DATA), random.Random(0), 0
    file = tmp_path / "m.gguf"
    tracemalloc.start()
    for number in range(300):
        copy = bytearray(whole)
        if number % 3 == 0:
            del copy[chance.randrange(len(copy)) :]
        else:
            for _ in range(chance.randint(1, 4)):
                copy[chance.randrange(len(copy) - len(DATA))] = chance.choice((0, 1, 127, 128, 255))
        try:
            read_header(written(file, bytes(copy)))
        except CheckpointError as error:
            assert str(file) in str(error)  # noqa: PT017 -- valid copies raise nothing
            refused += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 150
    assert peak < 20e6


def test_which_file_a_path_means(tmp_path: Path) -> None:
    """A folder means its only GGUF file, unless it holds other weights; several need a choice, parts are refused."""
    assert gguf_of(tmp_path) is None
    one = written(tmp_path / "one.gguf", b"")
    assert gguf_of(one) == gguf_of(tmp_path) == one
    written(tmp_path / "two.gguf", b"")
    with pytest.raises(CheckpointError, match=r"holds 2 GGUF files \(one.gguf, two.gguf\); choose one.*one.gguf'"):
        gguf_of(tmp_path)
    written(tmp_path / "model.safetensors", b"")
    assert gguf_of(tmp_path) is None
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in (1, 2):
        written(parts / f"m-0000{number}-of-00002.gguf", b"")
    for path in (parts, parts / "m-00002-of-00002.gguf"):
        with pytest.raises(CheckpointError, match=r"2 parts of a split GGUF file.*llama-gguf-split --merge"):
            gguf_of(path)
