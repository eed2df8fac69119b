"""Arrays and sequences of JSON, however they come in pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_core.errors import InputError
from rerank_core.records.text.json_stream import json_values

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def read(text: str, size: int) -> list[Any]:
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    return [value for value, _ in json_values(pieces, "a.json", json.JSONDecoder())]


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(VALUES, max_size=5), st.integers(1, 9), st.sampled_from([None, 1]), st.booleans())
def test_pieces_change_nothing(values: list[Any], size: int, indent: int | None, ascii_only: bool) -> None:
    """An array read in pieces of any size is the array, and so are values one after the other."""
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    assert read(text, size) == values
    objects = [{"a": value} for value in values]
    assert read("\n".join(json.dumps(one, indent=indent) for one in objects), size) == objects


@pytest.mark.parametrize("size", [1, 5, 1000])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[1,\n  {"a" 2}]', ":2: not JSON: Expecting ':' delimiter at column 8"),
        ("[1,\n 2\n 3]", ":3: not JSON: Expecting ',' delimiter at column 2"),
        ('[1,\n "abc', ":2: not JSON: Unterminated string"),
        ("[tru]", ":1: not JSON: Expecting value at column 2"),
    ],
)
def test_errors_have_line_and_column(text: str, place: str, size: int) -> None:
    """Whatever the pieces, a fault is found where it is."""
    with pytest.raises(InputError, match=f"^a.json{place}"):
        read(text, size)


def test_a_fault_ends_the_reading() -> None:
    """Broken JSON is reported where it is met, and the rest of a large file is not read into memory for it."""
    read_pieces = 0

    def pieces() -> Any:
        nonlocal read_pieces
        for read_pieces in range(1000):
            yield '{"a": 1}, {"a": oops}, ' if read_pieces else "[" + " " * 100

    with pytest.raises(InputError, match="Expecting value"):
        list(json_values(pieces(), "a.json", json.JSONDecoder()))

    assert read_pieces < 10
