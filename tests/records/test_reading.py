"""Files read record by record: every format, header and compression gives the same records, with their lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from rerank_core.errors import InputError
from rerank_core.records import RowError, read_lines, read_records, read_rows

COLUMNS = ("id", "text", "title")
RECORDS = [{"id": "d1", "text": 'He said "tin".', "title": "Tin"}, {"id": "d2", "text": "锡是金属", "title": "锡"}]


def write(path: Path) -> Path:
    """Write the records in the format of the file's name."""
    if ".parquet" in path.name:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
        return path
    lines = [json.dumps(record, ensure_ascii=False) for record in RECORDS]
    cells = [[str(value) for value in record.values()] for record in RECORDS]
    text = {
        "jsonl": "\n\n".join(lines),
        "json": f"[{', '.join(lines)}]",
        "tsv": "\n".join("\t".join(row) for row in [("ID", "Text", "title"), *cells]),
        "csv": "\n".join(
            ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [("id", "text", "title"), *cells]
        ),
    }[path.name.split(".")[1]]
    data = text.encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.tsv", "x.csv", "x.parquet", "x.jsonl.gz", "x.csv.gz"])
def test_all_formats_give_the_same_records(name: str, tmp_path: Path) -> None:
    assert [record for _, record in read_records(write(tmp_path / name), COLUMNS)] == RECORDS


def test_a_table_without_header_has_the_named_columns(tmp_path: Path) -> None:
    """The collection and the topics of MS MARCO: an id, a tab, a text whose quotes are its own."""
    path = tmp_path / "collection.tsv"
    path.write_text('1\t"Tin" is a metal.\n2\t\n', encoding="utf-8")
    names = {2: ("id", "text")}
    assert list(read_records(path, COLUMNS, without_header=names)) == [
        (1, {"id": "1", "text": '"Tin" is a metal.'}),
        (2, {"id": "2", "text": ""}),
    ]
    path.write_text("1\ta\n2\tb\tc\n", encoding="utf-8")
    with pytest.raises(RowError, match=r"collection.tsv:2: it has 3 columns; it must have 2 \(id, text\), or"):
        list(read_records(path, COLUMNS, without_header=names))


def test_a_faulty_record_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"id": "1"}\n\n{"id": "2"\n')
    with pytest.raises(RowError, match=r"x\.jsonl:3: not JSON"):
        list(read_records(path))
    path.write_bytes(b'{"id": "1"}\n{"id": "\xff"}\n')
    with pytest.raises(RowError, match=r"x\.jsonl:2: a byte of the line, 0xff, is not UTF-8"):
        list(read_records(path))
    table = tmp_path / "x.csv"
    table.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="header that names the columns, for example id,text,title"):
        list(read_records(table, COLUMNS))


def test_lines_have_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress("1 Q0 d1 1\r\n\n2 Q0 锡 0".encode()))
    assert list(read_lines(path)) == [(1, "1 Q0 d1 1"), (3, "2 Q0 锡 0")]


def test_a_cell_holds_a_text_or_a_list_of_texts(tmp_path: Path) -> None:
    """As JSON, also in columns that hold one text in other files; a reference in brackets is a text."""
    path = tmp_path / "a.csv"
    path.write_text(
        'query,positive,negative,negative_1\nq,"[""a"", ""b""]",[12],[see below]\nr,p,[],"[""n""]"\n', encoding="utf-8"
    )
    rows = read_rows([path])
    assert [(row.docs, row.labels) for row in rows] == [
        (("a", "b", "[12]", "[see below]"), (1.0, 1.0, 0.0, 0.0)),
        (("p", "n"), (1.0, 0.0)),
    ]
