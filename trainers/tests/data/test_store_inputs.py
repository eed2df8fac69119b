"""Training rows in whatever people have them give what plain JSON Lines give, in the same memory."""

from __future__ import annotations

import bz2
import csv
import gc
import gzip
import io
import json
import os
import pickle
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from rerank_core.errors import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.checks.check import check
from rerank_trainers.data.row_store import RowStore, open_rows
from rerank_trainers.data.spool import _delete

CHINESE = ["大熊猫吃什么东西呢，请问", "大熊猫以竹子为食，主要生活在中国四川", "熊猫是黑白相间的动物"]
ROWS: list[dict[str, Any]] = [
    {"query": CHINESE[0], "pos": [CHINESE[1]], "neg": [CHINESE[2], "no"]},
    {"query": 'what "is"\ntin?', "pos": ["a metal\u2028"], "neg": ["a can"]},
]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def array(rows: list[dict[str, Any]]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=2).encode()


def zstd(data: bytes) -> bytes:
    return bytes(pytest.importorskip("pyarrow").compress(data, codec="zstd", asbytes=True))


def table(rows: list[list[str]], delimiter: str = ",", quoting: Any = csv.QUOTE_MINIMAL) -> str:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=quoting).writerows(rows)
    return written.getvalue()


def opened(path: Path, data: bytes, **options: Any) -> RowStore:
    path.write_bytes(data)
    return open_rows([path], **options)


def bare(rows: RowStore) -> list[tuple[Any, ...]]:
    return [(row.query, row.docs, row.labels, row.scores) for row in rows]


@pytest.mark.parametrize(
    ("name", "made", "options"),
    [
        ("a.jsonl.gz", gzip.compress(lines(ROWS), mtime=0), {}),
        ("a.jsonl", gzip.compress(lines(ROWS), mtime=0), {}),
        ("a.gz", gzip.compress(array(ROWS), mtime=0), {}),
        ("a.json.bz2", bz2.compress(array(ROWS)), {}),
        ("a.json", array(ROWS), {}),
        ("a.jsonl", array(ROWS), {}),
        ("a.json", lines(ROWS), {}),
        ("a.json", b"\n".join(json.dumps(row, indent=1).encode() for row in ROWS), {}),
        ("a.jsonl", b"\xef\xbb\xbf" + lines(ROWS), {}),
        ("a.jsonl", lines(ROWS).decode().encode("utf-16"), {}),
        ("a.json", array(ROWS).decode().encode("utf-16-be"), {}),
        ("a.jsonl", lines(ROWS).decode().encode("gb18030"), {}),
        ("a.jsonl", lines(ROWS).replace("\u2028".encode(), b" ").decode().encode("gbk"), {"encoding": "gbk"}),
        ("a.jsonl", lines(ROWS).replace(b"\n", b"\r"), {}),
        ("a.txt", lines(ROWS), {}),
    ],
)
def test_what_lines_give(name: str, made: bytes, options: dict[str, str], tmp_path: Path) -> None:
    """Packed, in an array, or in another encoding, rows are the same, here and in a process they are pickled to."""
    store = opened(tmp_path / name, made, **options)
    wanted = bare(opened(tmp_path / "plain.jsonl", lines(ROWS)))
    if options:
        wanted = [(query, tuple(doc.replace("\u2028", " ") for doc in docs), *rest) for query, docs, *rest in wanted]
    assert bare(store) == wanted
    assert bare(pickle.loads(pickle.dumps(store))) == wanted
    assert store.location(1) == (name, 2)


def test_zstd(tmp_path: Path) -> None:
    """zstd is read like gzip."""
    assert bare(opened(tmp_path / "a.jsonl.zst", zstd(lines(ROWS)))) == bare(opened(tmp_path / "b.jsonl", lines(ROWS)))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.csv", "\t"), ("a.tsv", "\t")])
def test_tables(name: str, delimiter: str, encoding: str, tmp_path: Path) -> None:
    """Names in any case, breaks and separators in quotes, rows by the line where they begin, one row a query."""
    query, first, second = CHINESE
    head = ["Query", "Document", "Label"]
    cells = [head, [query, f'{first}, "or"\nso; {delimiter}', "1"], [query, second, "0"], ["q", "d", "0"]]
    store = opened(tmp_path / name, table(cells, delimiter).encode(encoding))

    assert bare(store)[0] == (query, (f'{first}, "or"\nso; {delimiter}', second), (1.0, 0.0), None)
    assert [store.location(0, doc)[1] for doc in (0, 1)] == [2, 4]
    assert store[1].id == f"{name}:5"


def row(cells: list[list[str]], tmp_path: Path, delimiter: str = ",", **options: Any) -> TrainingRow:
    (found,) = opened(tmp_path / "a.csv", table(cells, delimiter, **options).encode())
    return found


def test_cells(tmp_path: Path) -> None:
    """Lists in a cell, one text for a list, empty negatives, decimal commas, Excel's TRUE, pandas' row numbers."""
    lists = row([["", "query", "pos", "neg"], ["0", "q", "p", '["n", "m"]']], tmp_path)
    assert (lists.docs, lists.labels) == (("p", "n", "m"), (1.0, 0.0, 0.0))
    triplet = row([["anchor", "positive", "negative_1", "negative_2"], ["q", "p", "n", ""]], tmp_path)
    assert (triplet.docs, triplet.labels) == (("p", "n"), (1.0, 0.0))
    assert row([["query", "document", "score"], ["q", "d", "0,5"]], tmp_path, ";").scores == (0.5,)
    assert row([["query", "document", "label"], ["q", "d", "TRUE"]], tmp_path).labels == (1.0,)
    (said,) = opened(tmp_path / "b.csv", b"sep=;\r\nquery;document;label\r\nq;d;1\r\n")
    assert (said.docs, said.id) == (("d",), "b.csv:3")


def test_quotes_of_tab_separated_values(tmp_path: Path) -> None:
    """They are text, unless the file reads as Excel or pandas write it and some field needs them."""
    head = "query\tdocument\tlabel\n"
    plain = [f'{head}q\t"a"\t1\n', f'{head}q\t"a" and "b"\t1\n', f'{head}q\t"a\t1\n', 'q\t"a ""b"""\t1\n']
    found = [opened(tmp_path / "a.tsv", text.encode())[0].docs[0] for text in plain]
    assert found == ['"a"', '"a" and "b"', '"a', '"a ""b"""']
    quoted = [f'{head}q\t"a ""b"""\t1\n', '"query"\t"document"\t"label"\n"q"\t"a"\t"1"\n']
    assert [opened(tmp_path / "a.tsv", text.encode())[0].docs[0] for text in quoted] == ['a "b"', "a"]


def test_parquet_as_sentence_transformers_names_it(tmp_path: Path) -> None:
    """Columns of texts and of lists, without a warning of the column in which pandas numbers rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"query": ["q"], "positive": ["p"], "negative": [["n", "m"]], "__index_level_0__": [0]}
    parquet.write_table(arrow.table(columns), tmp_path / "a.jsonl")
    store = open_rows([tmp_path / "a.jsonl"])

    assert bare(store) == [("q", ("p", "n", "m"), (1.0, 0.0, 0.0), None)]
    assert check(store).counts == {}
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.jsonl").read_bytes()[:-9])
    with pytest.raises(InputError, match=r"'b.parquet' cannot be read as Parquet"):
        open_rows([tmp_path / "b.parquet"])


def test_a_bad_record_is_its_lines_fault(tmp_path: Path) -> None:
    """What one record holds is reported with its place and leaves the others, packed or in an array or table."""
    bad = [b'{"query": "\xff", "pos": ["a"]}', b'{"query": "q", "query": "r", "pos": ["a"]}', b"{oops"]
    packed = check(opened(tmp_path / "a.jsonl.gz", gzip.compress(b"\n".join([lines(ROWS[:1]).strip(), *bad]))))
    assert [(p.kind, p.line) for p in packed.problems] == [("not-utf-8", 2), ("broken-json", 3), ("broken-json", 4)]
    listed = check(opened(tmp_path / "a.json", json.dumps([1, ROWS[0], "x"]).encode()))
    assert [(p.kind, p.line) for p in listed.problems] == [("not-an-object", 1), ("not-an-object", 3)]
    for cell in (str(["a", "b"]), "['a' 'b']", "['it''s', \"b\"]"):
        for header in (["query", "pos", "neg"], ["query", "positive", "negative"]):
            pandas = check(opened(tmp_path / "b.csv", table([header, ["q", cell, '["c"]']]).encode()))
            assert [(p.kind, p.line, "as Python prints it" in p.message) for p in pandas.problems] == [
                ("not-a-list", 2, True)
            ]
    (wrapped,) = check(opened(tmp_path / "b.json", json.dumps({"data": ROWS}).encode())).problems
    assert """take them out: jq '.["data"]' FILE > rows.json""" in wrapped.message
    short = check(opened(tmp_path / "a.csv", b"query,document,label\nq,a\nq,b,0,,\nq,c,1\n"))
    assert [(p.kind, p.line) for p in short.problems] == [("tsv-columns", 2)]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.json", b'[\n{"query": "q",\n "pos": [}]', "a.json:3: not JSON: Expecting value at column 10"),
        ("a.json", b'[{"query": "q"}', "the array is not closed"),
        ("a.jsonl.gz", gzip.compress(lines(ROWS) * 20, mtime=0)[:-9], "damaged or cut off: gzip fails after"),
        ("a.csv", b'query,document,label\nq,"a,1\n', "a.csv:2: the quotes of this row"),
        ("a.csv", b"query,query,label\nq,a,1\n", "several columns named 'query'"),
        ("a.csv", "query,document\nété,où là\n".encode("cp1252"), "a.csv:2: byte 0xe9 is not UTF-8; .* --encoding"),
        ("a.parquet", b"x", "is named .parquet but is not a Parquet file"),
        ("a.parquet.gz", gzip.compress(b"PAR1", mtime=0), "is Parquet compressed with gzip; decompress it first"),
    ],
)
def test_a_broken_file_is_named(name: str, data: bytes, said: str, tmp_path: Path) -> None:
    """Where nothing that follows can be trusted, opening fails with the place and the reason."""
    with pytest.raises(InputError, match=said):
        opened(tmp_path / name, data)


def spools() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("rerank-rows-")}


def test_temporary_files_go_with_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Views keep it, another process leaves it, a failed opening leaves none, the last view takes it along."""
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    view = opened(tmp_path / "a.jsonl.gz", gzip.compress(lines(ROWS)))[1:]
    gc.collect()
    (spool,) = spools()
    _delete(str(tmp_path / "t" / spool), os.getpid() + 1)
    assert (spools(), view[0].labels) == ({spool}, (1.0, 0.0))
    del view
    gc.collect()
    assert spools() == set()
    with pytest.raises(InputError):
        opened(tmp_path / "a.json", b"[1, 2")
    gc.collect()
    assert spools() == set()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="set TMPDIR to a folder with more room"):
        opened(tmp_path / "a.jsonl.gz", gzip.compress(lines(ROWS)))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json", "a.csv"])
def test_texts_stay_on_disk(name: str, tmp_path: Path) -> None:
    """Opening 6 MB of text that cannot be read in place keeps less than 3 MB in Python's memory at any time."""
    rows = [{"query": f"q{at}", "document": "x" * 16_000, "label": 1} for at in range(400)]
    made = {
        "a.jsonl.gz": lambda: gzip.compress(lines(rows), 1),
        "a.json": lambda: array(rows),
        "a.csv": lambda: table([list(rows[0]), *([*map(str, one.values())] for one in rows)]).encode(),
    }
    (tmp_path / name).write_bytes(made[name]())
    tracemalloc.start()
    try:
        store = open_rows([tmp_path / name])
        assert store[399].query == "q399"
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
