"""`rerank rank` reads files as its help says: nothing is dropped, and a bad line is named."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from rerank_core import Document, InputError
from rerank_core.records.document_options import DocumentFields, DocumentFormat
from rerank_core.records.documents import read_documents


def write(folder: Path, name: str, content: str | bytes) -> str:
    """A file with exactly these bytes; returns its name."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_jsonl_objects_and_strings(tmp_path: Path) -> None:
    """An object gives text, id and metadata; a string is a text; a missing id is None."""
    file = write(tmp_path, "docs.jsonl", '{"id": 7, "text": "a", "title": "A"}\n"b"\n{"text": "c"}\n')

    assert read_documents([file]) == [Document("a", 7, {"title": "A"}), Document("b"), Document("c")]


def test_jsonl_fields_can_be_named(tmp_path: Path) -> None:
    """The text and the id may stand under other keys, and the usual ones are then metadata."""
    file = write(tmp_path, "docs.ndjson", '{"docno": "d1", "body": "a", "id": 3}')

    assert read_documents([file], fields=DocumentFields("body", "docno")) == [Document("a", "d1", {"id": 3})]


def test_empty_texts_are_documents(tmp_path: Path) -> None:
    """An empty text keeps its place; only a blank line is no document."""
    file = write(tmp_path, "docs.jsonl", '{"text": ""}\n\n  \n{"text": " "}\r\n')

    assert read_documents([file]) == [Document(""), Document(" ")]


def test_line_separators_inside_json_do_not_end_a_line(tmp_path: Path) -> None:
    """Only a line feed ends a line: U+2028 and U+0085 may stand in a JSON string."""
    file = write(tmp_path, "docs.jsonl", '{"text": "a\u2028b\u0085c"}\n')

    assert [document.text for document in read_documents([file])] == ["a\u2028b\u0085c"]


def test_json_array(tmp_path: Path) -> None:
    """A .json file is one array of what JSONL has on a line."""
    file = write(tmp_path, "docs.json", '[{"id": "x", "text": "a"},\n "b"]')

    assert read_documents([file]) == [Document("a", "x"), Document("b")]


def test_lines_are_numbered_in_the_file(tmp_path: Path) -> None:
    """Blank lines are no documents and still count; a carriage return is part of no text."""
    file = write(tmp_path, "notes.txt", "one\r\n\r\n  three\n")

    assert read_documents([file], DocumentFormat.lines) == [
        Document("one", f"{file}:1"),
        Document("  three", f"{file}:3"),
    ]


def test_other_files_are_one_document_each(tmp_path: Path) -> None:
    """A text file is one document, byte for byte but for a byte order mark, named as it was given."""
    first = write(tmp_path, "a.md", b"\xef\xbb\xbfone\n\ntwo\n")
    second = write(tmp_path, "b.txt", "")

    assert read_documents([first, second]) == [Document("one\n\ntwo\n", first), Document("", second)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('\n {"text": "a"}\n', [Document("a")]),
        ("a\n\n[b]\n", [Document("a", "stdin:1"), Document("[b]", "stdin:3")]),
        ("", []),
    ],
)
def test_stdin_is_jsonl_or_lines(content: str, expected: list[Document], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stdin is JSONL where its first line that is not blank starts with a brace, else lines."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content.encode())))

    assert read_documents([]) == expected


def test_stdin_takes_its_place_among_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-`` is stdin, in the order of the files, and may be given once."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"middle")))
    first, last = write(tmp_path, "a.txt", "first"), write(tmp_path, "b.txt", "last")

    assert [document.text for document in read_documents([first, "-", last])] == ["first", "middle", "last"]
    with pytest.raises(InputError, match="more than once"):
        read_documents(["-", "-"])


@pytest.mark.parametrize(
    ("name", "content", "place", "said"),
    [
        ("d.jsonl", '"a"\n\n{"text": }\n', ":3: ", "not JSON"),
        ("d.jsonl", '{"body": "a"}', ":1: ", "--text-field"),
        ("d.jsonl", '{"text": 5}', ":1: ", "must be a string"),
        ("d.jsonl", '{"text": "a", "id": [1]}', ":1: ", "an id must be a string or an integer"),
        ("d.jsonl", '{"text": "a", "id": true}', ":1: ", "a boolean"),
        ("d.jsonl", '"a"\n[]', ":2: ", "an array"),
        ("d.jsonl", "null", ":1: ", "null"),
        ("d.jsonl", '{"text": "a", "weight": NaN}', ":1: ", "NaN is not a JSON value"),
        ("d.jsonl", "[" * 100_000, ":1: ", "not JSON"),
        ("d.json", '[\n"a",\n}]', ":3: ", "not JSON"),
        ("d.json", '{"body": "a"}', ":1: ", "--text-field"),
        ("d.json", '["a", 5]', ": item 1: ", "a number"),
        ("d.txt", b"one\ntwo \xff\n", ":2: ", "0xff is not UTF-8"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(
    name: str, content: str | bytes, place: str, said: str, tmp_path: Path
) -> None:
    """A line that is no document raises an InputError with file, line and reason."""
    file = write(tmp_path, name, content)

    with pytest.raises(InputError) as raised:
        read_documents([file])

    assert str(raised.value).startswith(f"{file}{place}")
    assert said in str(raised.value)


@pytest.mark.parametrize(("name", "said"), [("missing.txt", "cannot be read"), (".", "is a directory")])
def test_files_that_cannot_be_read_are_named(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing file or a directory raises an InputError that names it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said) as raised:
        read_documents([name])

    assert repr(name) in str(raised.value)
