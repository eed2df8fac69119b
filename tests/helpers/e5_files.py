"""Writes a small multilingual-e5 file in the 4-bit layout that `rerank_mini` reads, with random weights."""

from __future__ import annotations

import random
import struct
from pathlib import Path

__all__ = ["PIECES", "write_e5"]

PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "▁",
    "▁query",
    "▁passage",
    ":",
    *"abcdefghijklmnopqrstuvwxyz",
    "大",
    "熊",
    "猫",
]
HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 2, 64, 512


def write_e5(path: Path, seed: int = 0) -> Path:
    """Write the file: 2 layers, width 32, the pieces above and two embeddings more."""
    generator = random.Random(seed)
    vocabulary = len(PIECES) + 2
    words = [piece.encode() for piece in PIECES]
    offsets = [0]
    for word in words:
        offsets.append(offsets[-1] + len(word))
    entries = [(0x1, ()), (0x7F, ()), (0xA0, (0x20,)), (0x3000, (0x20,)), (0xFF21, (0x41,))]
    table = b"".join(struct.pack(f"<IB{len(to)}I", source, len(to), *to) for source, to in entries)
    header = b"E5S1" + struct.pack(
        "<I7ifi", 1, HIDDEN, LAYERS, HEADS, INTERMEDIATE, vocabulary, POSITIONS, 2, 1e-12, 32
    )
    header += struct.pack("<5iQ", len(words), 0, 2, 1, 3, offsets[-1]) + struct.pack(f"<{len(offsets)}I", *offsets)
    header += struct.pack(f"<{len(words)}f", *[-float(number % 7) - 1 for number in range(len(words))])
    header += b"".join(words) + struct.pack("<iI", len(entries), len(table)) + table
    tensors = [
        (name, four_bits, count, _four_bits(count, generator) if four_bits else _floats(count, generator))
        for name, four_bits, count in _layout(vocabulary)
    ]
    index = sum(2 + len(name) + 21 for name, *_ in tensors)
    start = len(header) + 4 + index
    header += struct.pack("<i", len(tensors))
    for name, four_bits, count, data in tensors:
        header += (
            struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", four_bits, count, start, len(data))
        )
        start += len(data)
    path.write_bytes(header + b"".join(data for *_, data in tensors))
    return path


def _layout(vocabulary: int) -> list[tuple[str, bool, int]]:
    """Name, whether in 4 bits, and number of values of each tensor."""
    tensors = [
        ("emb.word", True, vocabulary * HIDDEN),
        ("emb.pos", False, POSITIONS * HIDDEN),
        ("emb.type", False, 2 * HIDDEN),
        ("emb.ln.w", False, HIDDEN),
        ("emb.ln.b", False, HIDDEN),
    ]
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "ao", "fi", "fo"):
            inner = INTERMEDIATE if name in ("fi", "fo") else HIDDEN
            tensors.append((f"l{layer}.{name}.w", True, HIDDEN * inner))
            tensors.append((f"l{layer}.{name}.b", False, INTERMEDIATE if name == "fi" else HIDDEN))
        for name in ("aln", "oln"):
            tensors += [(f"l{layer}.{name}.w", False, HIDDEN), (f"l{layer}.{name}.b", False, HIDDEN)]
    return tensors


def _four_bits(count: int, generator: random.Random) -> bytes:
    scale = struct.pack("<e", 0.05)
    return b"".join(scale + generator.randbytes(16) for _ in range(count // 32))


def _floats(count: int, generator: random.Random) -> bytes:
    return struct.pack(f"<{count}f", *[generator.gauss(0.0, 0.3) for _ in range(count)])
