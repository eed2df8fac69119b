"""Writes the bytes of small GGUF files by hand, so that a test can write any value, an invalid one too."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["gguf_bytes", "text", "value"]


def text(content: str) -> bytes:
    data = content.encode()
    return struct.pack("<Q", len(data)) + data


def value(content: Any) -> bytes:
    """A metadata value with its type."""
    if isinstance(content, bytes):
        return content
    if isinstance(content, bool):
        return struct.pack("<I?", 7, content)
    if isinstance(content, int):
        return struct.pack("<II", 4, content)
    if isinstance(content, float):
        return struct.pack("<If", 6, content)
    if isinstance(content, str):
        return struct.pack("<I", 8) + text(content)
    first = content[0]
    if isinstance(first, str):
        return struct.pack("<IIQ", 9, 8, len(content)) + b"".join(map(text, content))
    return struct.pack(f"<IIQ{len(content)}{'f' if isinstance(first, float) else 'i'}", 9,
                       6 if isinstance(first, float) else 5, len(content), *content)  # fmt: skip


def gguf_bytes(
    metadata: Mapping[str, Any],
    tensors: Sequence[tuple[str, Sequence[int], int, int]] = (),
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    order: str = "<",
) -> bytes:
    """A file.

    Args:
        tensors: name, sides in ggml's order, number of the type, and offset into the data.
    """
    head = magic + struct.pack(f"{order}IQQ", version, len(tensors), len(metadata))
    head += b"".join(text(key) + value(content) for key, content in metadata.items())
    for name, sides, kind, offset in tensors:
        head += text(name) + struct.pack(f"<I{len(sides)}QIQ", len(sides), *sides, kind, offset)
    return head + b"\0" * (-len(head) % 32) + data
