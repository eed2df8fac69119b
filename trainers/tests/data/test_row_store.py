"""Rows of files: found where they lie, grouped, picked, sent to other processes, and left on disk."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import tracemalloc
from pathlib import Path

import pytest

from helpers.examples import EXAMPLES
from rerank_core.errors import InputError
from rerank_core.records.fields import RowError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.row_store import RowStore, open_rows


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def pair(query: str, label: int = 1, **more: object) -> dict[str, object]:
    return {"query": query, "pos": [f"{query} yes"], "neg": [f"{query} no"], **more}


def test_rows_come_in_the_order_of_paths_and_lines() -> None:
    """Every example file opens together with all others, and each row says where it lies."""
    store = open_rows([EXAMPLES / "*.jsonl", EXAMPLES / "*.tsv"])
    assert store.names == [path.name for path in [*sorted(EXAMPLES.glob("*.jsonl")), *sorted(EXAMPLES.glob("*.tsv"))]]
    assert all(row.docs for row in store)
    places = [store.location(index) for index in range(len(store))]
    assert len(set(places)) == len(store)
    assert [name for name, _ in places] == sorted((name for name, _ in places), key=store.names.index)
    for index, (name, line) in enumerate(places):
        assert store[index].id in (f"{name}:{line}", "kettle")


def test_pointwise_lines_of_a_query_become_one_row() -> None:
    """Grouping keeps the order of lines, and knows the line of every document, blank lines counted."""
    store = open_rows([EXAMPLES / "pointwise.jsonl"])
    english, chinese = store
    assert english.docs == (
        "The harbour is eleven metres deep at low tide.",
        "The harbour has two piers.",
        "Ships of nine metres draught may enter.",
    )
    assert english.labels == (2.0, 0.0, 1.0)
    assert chinese.labels == (2.0, 0.0)
    assert [store.location(0, doc)[1] for doc in range(3)] == [1, 3, 5]
    assert english.id == "pointwise.jsonl:1"
    assert [row.labels for row in open_rows([EXAMPLES / "pointwise.jsonl"], group=False)] == [
        (2.0,), (2.0,), (0.0,), (1.0,), (0.0,)
    ]  # fmt: skip


def test_lines_are_grouped_only_where_they_belong_together(tmp_path: Path) -> None:
    """Another instruction, source or kind of judgement is another row; rows with lists are left alone."""
    line = {"query": "q", "content": "a", "label": 1}
    path = write(
        tmp_path / "rows.jsonl",
        line,
        {**line, "instruction": "other"},
        {**line, "source": "other"},
        {"query": "q", "content": "a", "score": 1},
        {"query": "q", "docs": ["a", "b"], "labels": [1, 0]},
        {**line, "content": "b", "label": 0},
        {**line, "label": "one"},
    )
    store = open_rows([path])
    assert [store.location(index)[1] for index in range(len(store))] == [1, 2, 3, 4, 5, 7]
    assert store[0].docs == ("a", "b")
    with pytest.raises(RowError, match=r"rows.jsonl:7: label is 'one'; it must be a number"):
        store[5]


def test_a_query_in_two_files_is_two_rows(tmp_path: Path) -> None:
    """Files are not mixed, so that each keeps its source and weight."""
    line = {"query": "q", "content": "a", "label": 1}
    store = open_rows([write(tmp_path / "a.jsonl", line), write(tmp_path / "b.jsonl", line)])
    assert [row.source for row in store] == ["a.jsonl", "b.jsonl"]


def test_byte_order_marks_blank_lines_and_line_ends(tmp_path: Path) -> None:
    """A BOM, CRLF, blank lines and a missing last line break change neither rows nor line numbers."""
    first, last = json.dumps(pair("一")), json.dumps(pair("b"))
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f"{first}\r\n\r\n  \n{last}".encode())
    store = open_rows([path])
    assert [(row.query, row.id) for row in store] == [("一", "rows.jsonl:1"), ("b", "rows.jsonl:4")]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"query": "q", "pos": ["a"]', "broken-json"),
        (b'{"query": "caf\xe9", "pos": ["a"]}', "not-utf-8"),
        (b'[{"query": "q", "pos": ["a"]}]', "not-an-object"),
        (b"[" * 100_000, "broken-json"),
    ],
)
def test_a_line_that_cannot_be_decoded_is_named_when_read(tmp_path: Path, line: bytes, kind: str) -> None:
    """Opening does not fail for one bad line; reading it does, with file, line and kind, also after pickling."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(pair("a")).encode() + b"\n" + line + b"\n")
    store = open_rows([path])
    assert store[0].query == "a"
    with pytest.raises(RowError, match=r"^rows.jsonl:2: ") as caught:
        store[1]
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.kind, error.file, error.line, str(error)) == (kind, "rows.jsonl", 2, str(caught.value))


def test_tab_separated_files() -> None:
    """Three columns, RocketQA's four, and columns named by a header, which is no row."""
    graded, header, rocket = (open_rows([EXAMPLES / name]) for name in ("graded.tsv", "header.tsv", "rocketqa.tsv"))
    assert [(row.query, row.labels) for row in graded] == [
        ("what melts snow?", (3.0, 0.0)),
        ("什么能化雪?", (3.0, 2.0)),
    ]
    (row,) = header
    assert (row.labels, row.source, row.id) == ((1.0, 0.0), "farm", "header.tsv:2")
    assert rocket[0].docs == ("除锈方法 用醋泡一晚再刷。", "铁是金属。")


def test_columns_that_are_no_row_are_named(tmp_path: Path) -> None:
    """A line with too few columns, and a label that is no number, are errors of their lines."""
    path = tmp_path / "rows.tsv"
    path.write_text("q\tdoc\t1\nq\tdoc\nq\tdoc\tgood\n", encoding="utf-8")
    store = open_rows([path])
    with pytest.raises(RowError, match=r"rows.tsv:2: .* has 2 columns"):
        store[1]
    with pytest.raises(RowError, match=r"rows.tsv:3: label is 'good'; it must be a number"):
        store[2]


def test_parquet_is_what_jsonl_is(tmp_path: Path) -> None:
    """Parquet gives the same rows, over several row groups, with nulls for absent columns and pointwise rows."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    records = [pair(f"q{number}") for number in range(7)]
    records += [{"query": "p", "content": f"doc {number}", "label": number} for number in range(3)]
    parquet.write_table(arrow.Table.from_pylist(_filled(records)), tmp_path / "rows.parquet", row_group_size=2)
    store = open_rows([tmp_path / "rows.parquet"])
    plain = open_rows([write(tmp_path / "rows.jsonl", *records)])
    bare = [(row.query, row.docs, row.labels) for row in plain]
    assert [(row.query, row.docs, row.labels) for row in store] == bare
    assert [(row.query, row.docs, row.labels) for row in pickle.loads(pickle.dumps(store))] == bare
    assert store[6].id == "rows.parquet:7"
    assert store[-1].docs == ("doc 0", "doc 1", "doc 2")


def _filled(records: list[dict[str, object]]) -> list[dict[str, object]]:
    keys = {key for record in records for key in record}
    return [{key: record.get(key) for key in sorted(keys)} for record in records]


def _read(store: RowStore) -> list[TrainingRow]:
    return list(store)


def test_a_spawned_process_reads_the_same(tmp_path: Path) -> None:
    """A store goes to a process that shares nothing with this one, after this one has read from it."""
    store = open_rows([EXAMPLES / "*.jsonl"])
    here = list(store)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_read, (store,)) == here


def test_a_file_that_changed_is_not_read_at_old_places(tmp_path: Path) -> None:
    """A worker that opens the file later than its places were found says that it changed."""
    path = write(tmp_path / "rows.jsonl", pair("a"), pair("b"))
    store = pickle.loads(pickle.dumps(open_rows([path])))
    write(path, pair("longer than before"), pair("b"))
    with pytest.raises(InputError, match="has changed since it was opened"):
        store[0]


def test_texts_stay_on_disk(tmp_path: Path) -> None:
    """Opening 16 MB of text, and reading some of it, keeps less than 1 MB in Python's memory."""
    path = write(tmp_path / "rows.jsonl", *(pair("q", note="x" * 16_000, id=str(row)) for row in range(1_000)))
    tracemalloc.start()
    try:
        store = open_rows([path])
        assert [store[row].id for row in (999, 0, 500)] == ["999", "0", "500"]
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_views_compose(tmp_path: Path) -> None:
    """Slices, selections and exclusions of one another name rows by their place in the view."""
    store = open_rows(
        [write(tmp_path / "a.jsonl", *map(pair, "abcdef")), write(tmp_path / "b.jsonl", *map(pair, "xyz"))]
    )
    assert [row.query for row in store[4:8]] == list("efxy")
    assert [row.query for row in store[::-3]] == list("zfc")
    assert [row.query for row in store[4:8].drop([0, -1])] == list("fx")
    assert [row.query for row in store.select([8, 0, 0])] == list("zaa")
    assert (store[-1].query, len(store), len(store.drop([]))) == ("z", 9, 9)
    assert store.drop(range(8)).location(0) == ("b.jsonl", 3)
    for index in (9, -10):
        with pytest.raises(IndexError):
            store[index]


def test_rows_are_counted_by_source(tmp_path: Path) -> None:
    """A row's own source counts, then its file; a row that cannot be read counts for its file."""
    one = write(tmp_path / "one.jsonl", pair("a", source="web"), pair("b"), {"source": "web"})
    two = write(tmp_path / "two.jsonl", pair("c"))
    assert open_rows([one, two]).source_counts == {"web": 1, "one.jsonl": 2, "two.jsonl": 1}


def test_the_fingerprint_is_that_of_the_bytes(tmp_path: Path) -> None:
    """It is the SHA-256 of the files one after another, so that anybody can check it."""
    paths = [write(tmp_path / "one.jsonl", pair("a")), write(tmp_path / "two.jsonl", pair("b"))]
    expected = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    assert open_rows(paths).fingerprint() == expected


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """Sources and ids stay unique where two folders hold a file of the same name."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "train.jsonl", pair(folder))
    assert [row.id for row in open_rows([tmp_path / "*" / "train.jsonl"])] == ["a/train.jsonl:1", "b/train.jsonl:1"]


def test_paths_that_name_nothing_usable(tmp_path: Path) -> None:
    """What is missing, empty, packed, named twice, of another kind, or not a list is refused, with its name."""
    good = write(tmp_path / "good.jsonl", pair("a"))
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    (tmp_path / "nothing.jsonl").touch()
    (tmp_path / "header.tsv").write_text("query\tdoc\tlabel\n", encoding="utf-8")
    (tmp_path / "rows.csv").touch()
    (tmp_path / "bare.csv").write_text("q,a,1\n", encoding="utf-8")
    (tmp_path / "rows.xlsx").touch()
    for paths, reason in [
        ([], "no files are named"),
        (str(good), "it must be a list"),
        ([tmp_path / "none.jsonl"], "does not exist"),
        ([tmp_path / "none*.jsonl"], "no file matches"),
        ([tmp_path], "is a folder"),
        ([good, tmp_path / "go*.jsonl"], "named twice"),
        ([tmp_path / "empty.jsonl"], "has no records"),
        ([tmp_path / "nothing.jsonl"], "has no records"),
        ([tmp_path / "header.tsv"], "has no records"),
        ([tmp_path / "rows.csv"], "has no records"),
        ([tmp_path / "bare.csv"], "bare.csv:1: the first line is 'q,a,1'; it must be a header that names the columns"),
        ([tmp_path / "rows.xlsx"], "has none of the suffixes .jsonl"),
        (["/dev/null"], "is a pipe or device"),
        (["x" * 5000], "'xxx.*xxx' does not exist"),
        (["-"], "is stdin"),
    ]:
        with pytest.raises(InputError, match=reason):
            open_rows(paths)  # type: ignore[arg-type]


@pytest.mark.parametrize("group", [True, False])
def test_progress_reaches_the_end(tmp_path: Path, group: bool) -> None:
    """Progress is in bytes, never goes back, and ends where all files are read, twice if lines are grouped."""
    lines = [{"query": "q", "content": "x" * 9_000, "label": 1}] * 1300
    paths = [write(tmp_path / "a.jsonl", *lines), write(tmp_path / "b.jsonl", pair("q"))]
    seen: list[tuple[int, int]] = []
    open_rows(paths, group=group, progress=lambda done, total: seen.append((done, total)))
    size = sum(path.stat().st_size for path in paths) * (2 if group else 1)
    assert seen == sorted(seen)
    assert len(seen) > 10
    assert seen[-1] == (size, size)


@pytest.mark.data
def test_real_files_of_two_frameworks(data: Path) -> None:
    """Sizes of RAG-Retrieval's and RocketQA's own examples: 2,005 scored lines are 100 queries' rows."""
    folder = data / "zh_t2rank100"
    lines = open_rows([folder / "t2rank_100.distill.jsonl"])
    standard = open_rows([folder / "t2rank_100.distill.standard.jsonl"])
    assert (len(lines), len(standard)) == (100, 100)
    assert sum(len(row.docs) for row in lines) == 2005
    assert [(row.query, row.scores) for row in lines] == [(row.query, row.scores) for row in standard]
    rocket = open_rows([data / "zh_rocketqa_examples" / "cross.train.tsv"])
    assert sum(len(row.docs) for row in rocket) == 100
    assert {label for row in rocket for label in row.labels or ()} == {0.0, 1.0}
