"""What holds no documents is refused by what it is, with what to do."""

from __future__ import annotations

import gzip
import io
import itertools
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rerank_core import Document, InputError
from rerank_core.records.documents import read_documents


def read(path: Path, data: bytes, encoding: str | None = None) -> list[Document]:
    path.write_bytes(data)
    return read_documents([str(path)], encoding=encoding)


def parquet(column: Any) -> bytes:
    arrow, written = pytest.importorskip("pyarrow"), io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"text": column}), written)
    return written.getvalue()


def archive(kind: str) -> bytes:
    written = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=written, mode="w:gz") as tar:
            tar.addfile(tarfile.TarInfo("docs.jsonl"))
    else:
        with zipfile.ZipFile(written, "w") as packed:
            packed.writestr("xl/workbook.xml" if kind == "xlsx" else "docs.jsonl", "{}")
    return written.getvalue()


def not_utf8() -> bytes:
    arrow = pytest.importorskip("pyarrow")
    buffers = [None, arrow.py_buffer(b"\0\0\0\0\1\0\0\0"), arrow.py_buffer(b"\xff")]
    return parquet(arrow.Array.from_buffers(arrow.string(), 1, buffers))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.xlsx", archive("xlsx"), "an Excel workbook .*; save it as CSV UTF-8"),
        ("a.csv", archive("xlsx"), "an Excel workbook .*; save it as CSV UTF-8"),
        ("a.zip", archive("zip"), "a zip archive"),
        ("a.tar.gz", archive("tar"), "a tar archive"),
        ("a.pdf", b"%PDF-1.7", "a PDF"),
        ("a.jsonl.gz", gzip.compress(gzip.compress(b"{}")), "compressed twice"),
        ("a.parquet", b"hello", "is not a Parquet file"),
        ("a.parquet", not_utf8(), r"has a text that is not UTF-8 .*; write the file again"),
        ("a.parquet", parquet([b"a"]), r"'text' is b'a' \(bytes\)"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': ", "a NumPy array"),
        ("a.pkl", pickle.dumps([{"text": "a"}]), "a pickle, which cannot be read"),
        ("a.jsonl.lz4", b"\x04\x22\x4d\x18d@\xa7", "compressed by lz4, .*; unpack it first: lz4 -d FILE"),
        ("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(1, 256)), "holds NUL bytes, so it is not text"),
        (
            "a.csv",
            b"a,b\nc,d\n",
            r":1: the columns are \['a', 'b'\], and none is 'text'; name the text column with --text-field",
        ),
        ("a.csv", b"id,text\n1\n", ":2: it has 1 columns, and the header has 2"),
        ("a.csv", b'id,text\n1,"a\n2,b\n', ":2: the quotes of this row"),
        ("a.csv", b"text,text\n1,2\n", "several columns named 'text'"),
        ("a.jsonl", b'{"text": "a", "text": "b"}', ":1: not JSON: the key 'text' occurs twice"),
        ("a.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}", ":1: not JSON: a number has too many digits"),
        ("a.json", b'["a"]\n["b"]', ":2: not JSON: text follows after the end of the array"),
        ("a.json", b'["a",\n"b"', ":2: not JSON: the array is not closed"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_text_is_named(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    """Archives, workbooks, broken tables and arrays say what they are, where, and what to do."""
    with pytest.raises(InputError, match=said):
        read(tmp_path / name, data)


@pytest.mark.parametrize("encoding", ["idna", "rot13", "base64", "undefined", "", "x" * 5000, "a\0b"])
def test_what_is_no_encoding_is_refused(encoding: str, tmp_path: Path) -> None:
    """Codecs of Python's that are not for texts are named like those that it does not know."""
    with pytest.raises(InputError, match="which Python does not know; use for example utf-8"):
        read(tmp_path / "a.jsonl", b'{"text": "a"}', encoding=encoding)
