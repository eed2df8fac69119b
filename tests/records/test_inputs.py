"""Documents in whatever people have them: packed, tables, arrays, Parquet, the encodings of Windows, pipes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rerank_core import Document, InputError
from rerank_core.errors import MissingDependencyError
from rerank_core.records.document_options import DocumentFields, DocumentFormat
from rerank_core.records.documents import read_documents
from rerank_core.records.text.streams import HEAD_SIZE

CHINESE = "大熊猫以竹子为食，主要生活在中国四川的山区。"
TEXTS = [CHINESE, 'says "bamboo",\nthen sleeps; often', "été"]
HEADER = ["id", "text"]


def jsonl(texts: list[str] = TEXTS) -> bytes:
    return b"".join(json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" for text in texts)


def table(texts: list[str], delimiter: str) -> str:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter).writerows([HEADER, *([str(at), text] for at, text in enumerate(texts))])
    return written.getvalue()


def zstd(data: bytes) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    return bytes(arrow.compress(data, codec="zstd", asbytes=True))


def parquet(columns: dict[str, Any]) -> bytes:
    arrow, written = pytest.importorskip("pyarrow"), io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(columns), written)
    return written.getvalue()


def read(path: Path, data: bytes, **options: Any) -> list[Document]:
    path.write_bytes(data)
    return read_documents([str(path)], **options)


def piped(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data))))  # type: ignore[arg-type]
    return read_documents([])


def texts(documents: list[Document]) -> list[str]:
    return [document.text for document in documents]


PACKINGS = [(".gz", gzip.compress), (".zst", zstd), (".bz2", bz2.compress), (".xz", lzma.compress)]


@pytest.mark.parametrize(("suffix", "pack"), PACKINGS)
def test_packed_files(
    suffix: str, pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compression is told by the first bytes, whatever the name; a cut-off file is an error that says so."""
    data = pack(jsonl())
    assert texts(read(tmp_path / f"corpus.jsonl{suffix}", data)) == TEXTS
    assert texts(read(tmp_path / "corpus.jsonl", data)) == TEXTS
    assert texts(read(tmp_path / f"corpus{suffix}", data)) == TEXTS
    assert texts(piped(data, monkeypatch)) == TEXTS
    with pytest.raises(InputError, match=r"damaged or cut off: .*; copy or download it again") as raised:
        read(tmp_path / f"cut.jsonl{suffix}", pack(jsonl() + os.urandom(2 * HEAD_SIZE).hex().encode())[:-20])
    assert "iconv" not in str(raised.value)


def test_what_a_gzip_unpacks_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file of one endless line stops at the longest record, and is not unpacked into memory whole."""
    monkeypatch.setattr("rerank_core.records.text.decoding.MAX_RECORD_CHARS", 1 << 20)
    with pytest.raises(InputError, match="is longer than 1,048,576 characters"):
        read(tmp_path / "bomb.jsonl.gz", gzip.compress(b" " * (1 << 24)))
    with pytest.raises(InputError, match="holds NUL bytes"):
        read(tmp_path / "zeros.jsonl.gz", gzip.compress(bytes(1 << 20)))


def test_zstd_in_parallel(tmp_path: Path) -> None:
    """What pzstd writes begins with a frame that is skipped, and has several others."""
    data = b"\x50\x2a\x4d\x18\4\0\0\0size" + zstd(jsonl(TEXTS[:1])) + zstd(jsonl(TEXTS[1:]))
    assert texts(read(tmp_path / "a.jsonl.zst", data)) == TEXTS


def test_a_beir_corpus(tmp_path: Path) -> None:
    """Ids are under ``_id`` there, and ``id`` wins where both are."""
    rows = [{"_id": "d1", "title": "Panda", "text": "a"}, {"_id": "x", "id": 7, "text": "b"}]
    data = gzip.compress(b"\n".join(json.dumps(row).encode() for row in rows))

    assert read(tmp_path / "corpus.jsonl.gz", data) == [
        Document("a", "d1", {"title": "Panda"}),
        Document("b", 7, {"_id": "x"}),
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz", "-"])
def test_arrays(name: str, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array of documents is one, from stdin too, on one line or over many."""
    data = json.dumps([{"text": text} for text in TEXTS] + ["s"], indent=indent).encode()
    data = gzip.compress(data) if name.endswith(".gz") else data
    found = piped(data, monkeypatch) if name == "-" else read(tmp_path / name, data)

    assert texts(found) == [*TEXTS, "s"]


def test_objects_over_several_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `jq` prints, objects one after the other, is read from stdin and from a .json."""
    data = "\n".join(json.dumps({"text": text}, indent=1) for text in TEXTS).encode()

    assert texts(piped(data, monkeypatch)) == TEXTS
    assert texts(read(tmp_path / "a.json", data)) == TEXTS


@pytest.mark.parametrize(
    "line",
    ["[INFO] started", "[a link](x)", "[1] a footnote", "[] a task", '["a"] is a list', "text, images, sound"],
)
def test_lines_stay_lines(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text on stdin that begins with a bracket or has commas is no array and no table."""
    assert texts(piped(f"{line}\nmore\n".encode(), monkeypatch)) == [line, "more"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-16-le", "utf-16-be"])
def test_tables_as_excel_writes_them(
    encoding: str, delimiter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The separator is found by the header, the encoding by the bytes; quoted fields hold separators and breaks."""
    wanted = [CHINESE, 'says "bamboo",\nthen sleeps; often', "它们每天要花费很长时间吃东西"]
    data = table(wanted, delimiter).encode(encoding)
    for found in (read(tmp_path / "docs.csv", data), piped(data, monkeypatch)):
        assert [(document.id, document.text) for document in found] == [
            (str(at), text) for at, text in enumerate(wanted)
        ]
    if delimiter == "\t":
        assert texts(read(tmp_path / "Unicode text.txt", data)) == wanted


def test_a_guessed_encoding_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """GB18030 is never assumed without a word, and nobody is warned of what a mark says."""
    read(tmp_path / "a.txt", CHINESE.encode("utf-16"))
    assert caplog.messages == []
    assert texts(read(tmp_path / "b.txt", CHINESE.encode("gb18030"))) == [CHINESE]
    (message,) = caplog.messages
    assert message.endswith(
        "b.txt is not UTF-8 and is read as GB18030; if that is wrong, name its encoding with --encoding"
    )


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("big5", "熊貓以竹子為食，主要生活在中國四川的山區。它們每天要花費很長時間"),
        ("shift_jis", "パンダは竹を食べます。主に四川省の山岳地帯に生息しています。"),
        ("euc-jp", "パンダは竹を食べます。主に四川省の山岳地帯に生息しています。"),
        ("euc-kr", "판다는 대나무를 먹고 산다. 주로 중국의 산악 지대에 서식한다"),
        ("cp1252", "été à la crème brûlée, déjà vu, élève, naïve"),
        ("gbk", "短"),
    ],
)
def test_other_encodings_are_asked_for(encoding: str, text: str, tmp_path: Path) -> None:
    """What cannot be told is refused with its line, and the option that the message names reads it."""
    path = tmp_path / "a.txt"
    with pytest.raises(InputError, match=r"a.txt:2: byte 0x.. is not UTF-8; .* --encoding, for example gb18030, big5"):
        read(path, b"ascii\n" + text.encode(encoding))
    assert texts(read_documents([str(path)], encoding=encoding)) == ["ascii\n" + text]
    with pytest.raises(InputError, match="encoding is 'klingon', which Python does not know"):
        read_documents([str(path)], encoding="klingon")


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A column of texts, ids and metadata that JSON can hold; by name, by content, and from stdin."""
    arrow = pytest.importorskip("pyarrow")
    days = arrow.array([0, 1], arrow.date32())
    data = parquet({"text": TEXTS[:2], "id": [1, 2], "w": [float("nan"), 1.0], "d": days, "__index_level_0__": [0, 1]})
    wanted = [
        Document(TEXTS[0], 1, {"w": None, "d": "1970-01-01"}),
        Document(TEXTS[1], 2, {"w": 1.0, "d": "1970-01-02"}),
    ]
    assert read(tmp_path / "a.parquet", data) == wanted
    assert read(tmp_path / "a.jsonl", data) == wanted
    assert piped(data, monkeypatch) == wanted
    assert texts(read(tmp_path / "b.parquet", parquet({"body": ["x"]}), fields=DocumentFields("body"))) == ["x"]
    for broken in (data[:-9], data[:30] + data[60:]):
        with pytest.raises(InputError, match="cannot be read as Parquet"):
            read(tmp_path / "cut.parquet", broken)


@pytest.mark.parametrize(("name", "data"), [("a.parquet", b"PAR1"), ("a.jsonl.zst", b"\x28\xb5\x2f\xfd")])
def test_without_pyarrow(name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parquet and zstd say which package is missing."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(MissingDependencyError, match=r"pip install 'rerank-core\[parquet\]'"):
        read(tmp_path / name, data)


def test_devices_and_pipes(tmp_path: Path) -> None:
    """A device never ends and is refused; a named pipe, as a shell's <(...) is one, is read as stdin is."""
    for path in ("/dev/zero", "/dev/null"):
        with pytest.raises(InputError, match="is a device"):
            read_documents([path])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(jsonl(),))
    writer.start()
    try:
        assert texts(read_documents([str(pipe)])) == TEXTS
    finally:
        writer.join()


@pytest.mark.parametrize("data", [b"one\rtwo\rthree", b"one\r\ntwo\r\nthree\r\n"])
def test_line_ends(data: bytes, tmp_path: Path) -> None:
    """Lines end as Windows or old Macs end them."""
    assert texts(read(tmp_path / "a.txt", data, form=DocumentFormat.lines)) == ["one", "two", "three"]


def test_one_column_and_marks_inside(tmp_path: Path) -> None:
    """A table may have the text alone; files that were joined may have a byte order mark inside."""
    assert texts(read(tmp_path / "a.csv", b'text\n"a, b"\nc\n')) == ["a, b", "c"]
    assert texts(read(tmp_path / "a.jsonl", b'\xef\xbb\xbf"a"\n\xef\xbb\xbf"b"\n')) == ["a", "b"]


def test_an_array_inside_an_object(tmp_path: Path) -> None:
    """An object that holds the documents is not one of them, and the error says where they seem to be."""
    with pytest.raises(
        InputError, match=r"has no 'text' \(it has \['data'\]\); its 'data' is a list; .* jq '.\[\"data\"\]'"
    ):
        read(tmp_path / "a.json", b'{"data": [{"text": "a"}]}')


def test_a_collection_of_ms_marco(tmp_path: Path) -> None:
    """Two columns without a header are an id and a passage, in which quotes are quotes."""
    assert read(tmp_path / "collection.tsv", b'0\t"A" is\n1\tb\n') == [Document('"A" is', "0"), Document("b", "1")]
