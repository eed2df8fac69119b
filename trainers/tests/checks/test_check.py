"""Every problem is found where it is, counted, and decided on alike by the report and by training."""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path
from typing import Any

import pytest

from helpers.examples import EXAMPLES
from rerank_core.errors import InputError
from rerank_core.records.label_scale import LabelScale
from rerank_trainers.checks.check import CheckOptions, apply_on_error, check
from rerank_trainers.checks.report import KINDS, Report
from rerank_trainers.data.hashing import HashIndex, digest, find_repeats
from rerank_trainers.data.row_store import RowStore, open_rows

GOOD = {"query": "what is tin?", "docs": ["Tin is a metal.", "Tin was mined in Cornwall."], "labels": [1, 0]}


def store_of(path: Path, *lines: Any) -> RowStore:
    """A store of one file; a line is an object, or bytes as they are."""
    encoded = (line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(b"\n".join(encoded) + b"\n")
    return open_rows([path])


def kinds(report: Report) -> list[tuple[str, int]]:
    return [(problem.kind, problem.line) for problem in report.problems]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("not-utf-8", b'{"query": "caf\xe9", "pos": ["a"], "neg": ["b"]}'),
        ("broken-json", b'{"query": "q", "pos": ["a"'),
        ("not-an-object", b"3"),
        ("unknown-format", {"q": "a"}),
        ("ambiguous-format", {**GOOD, "pos": ["a"]}),
        ("not-a-string", {**GOOD, "query": None}),
        ("string-for-list", {"query": "q", "pos": "ab", "neg": ["c"]}),
        ("not-a-list", {**GOOD, "labels": 1}),
        ("not-a-number", {**GOOD, "labels": ["1", 0]}),
        ("length-mismatch", {**GOOD, "labels": [1]}),
        ("no-docs", {"query": "q", "docs": []}),
        ("no-label", {"query": "q", "content": "c", "label": None}),
        ("no-query", {"messages": [], "positive_messages": []}),
        ("not-one-text", {"messages": [{"role": "user", "content": "q"}], "positive_messages": [[]]}),
        ("empty-query", {**GOOD, "query": " \u3000"}),
        ("empty-doc", {**GOOD, "docs": ["a", "\n"]}),
        ("lone-surrogate", {**GOOD, "docs": ["a", "half \ud83d"]}),
        ("not-finite", b'{"query": "q", "docs": ["a", "b"], "labels": [1, NaN]}'),
        ("not-finite", b'{"query": "q", "docs": ["a", "b"], "scores": [1, -Infinity]}'),
        ("label-out-of-range", {**GOOD, "query": "q", "labels": [4, 0]}),
        ("positive-in-negatives", {"query": "q", "pos": ["same"], "neg": ["other", " same "]}),
        ("duplicate-docs", {"query": "q", "pos": ["a"], "neg": ["same", "same"]}),
        ("duplicate-row", {**GOOD, "docs": GOOD["docs"][::-1], "labels": [0, 1]}),  # type: ignore[index]
        ("all-equal", {**GOOD, "labels": [1, 1], "query": "q"}),
        ("all-equal", {"query": "q", "docs": ["a", "b"], "scores": [0.5, 0.5]}),
        ("single-doc", {"query": "q", "pos": ["a"]}),
        ("unlabeled", {"query": "q", "docs": ["a", "b"]}),
        ("doubled-prompt", {**GOOD, "query": "query: q", "instruction": "query: "}),
        ("doubled-prompt", {"query": "q", "docs": ["x", "passage: y"], "labels": [1, 0], "prompts": "passage: "}),
        ("long-query", {**GOOD, "query": "q" * 41}),
        ("unread-keys", {"query": "q", "pos": ["a"], "neg": ["b"], "pos_score": [3]}),
    ],
)
def test_each_kind_is_found_alone_and_in_its_line(tmp_path: Path, kind: str, line: Any) -> None:
    """A file of one good and one bad row has the one problem, on line 3, with its severity; a file without it none."""
    options = CheckOptions(label_scale=LabelScale(0, 3), max_query=40)
    assert not check(store_of(tmp_path / "good.jsonl", GOOD), options).counts
    report = check(store_of(tmp_path / "rows.jsonl", GOOD, b"", line), options)
    assert kinds(report) == [(kind, 3)]
    severity = KINDS[kind][0]
    assert (report.errors, report.warnings) == ((1, 0) if severity == "error" else (0, 1))
    assert list(report.error_rows) == ([1] if severity == "error" else [])
    assert report.problems[0].file == "rows.jsonl"
    assert report.problems[0].message


def test_every_kind_has_a_test() -> None:
    """The cases above, those of evaluation data and of columns below are all kinds that there are."""
    marks = test_each_kind_is_found_alone_and_in_its_line.pytestmark  # type: ignore[attr-defined]
    tested = {kind for mark in marks for kind, _ in mark.args[1]}
    assert tested | {"pair-in-eval", "query-in-eval", "tsv-columns"} == set(KINDS)


def test_all_problems_of_a_row_are_reported(tmp_path: Path) -> None:
    """One problem does not hide the next, and the row counts once."""
    row = {"query": "", "docs": ["", "", "x"], "labels": [1, 7, float("nan")]}
    report = check(store_of(tmp_path / "rows.jsonl", row), CheckOptions(label_scale=LabelScale()))
    assert report.counts == {"empty-query": 1, "empty-doc": 2, "label-out-of-range": 1, "not-finite": 1}
    assert (report.errors, list(report.error_rows), list(report.unusable_rows)) == (5, [0], [0])


def test_a_document_of_a_grouped_row_is_found_on_its_own_line(tmp_path: Path) -> None:
    """Pointwise lines that became one row are named by the line of the document that is wrong."""
    lines = [{"query": "q", "content": content, "label": 1} for content in ("a", "", "b")]
    report = check(store_of(tmp_path / "rows.jsonl", *lines))
    assert kinds(report) == [("empty-doc", 2), ("all-equal", 1)]


def test_columns_of_tsv(tmp_path: Path) -> None:
    """A line of TSV with a missing column is a problem of its own kind."""
    path = tmp_path / "rows.tsv"
    path.write_text("q\tdoc\t1\nq\tother\t0\nq\tdoc\n", encoding="utf-8")
    assert kinds(check([path])) == [("tsv-columns", 3)]


def test_queries_in_tokens(tmp_path: Path) -> None:
    """With a tokenizer's count the limit is in tokens."""
    store = store_of(tmp_path / "rows.jsonl", GOOD, {**GOOD, "query": "one two three four"})
    options = CheckOptions(max_query=3, count=lambda text: len(text.split()))
    assert [str(problem) for problem in check(store, options).problems] == [
        "rows.jsonl:2: the query has 4 tokens, and 3 are allowed"
    ]


def test_leaks_of_evaluation_data(tmp_path: Path) -> None:
    """A query that is evaluated on is a warning, with its document an error; case, width and space do not hide it."""
    held = store_of(tmp_path / "dev.jsonl", {**GOOD, "query": "ＷＨＡＴ  is Zinc?"}, GOOD)
    store = store_of(
        tmp_path / "train.jsonl",
        {**GOOD, "query": "what is lead?"},
        {**GOOD, "query": "What is zinc? ", "docs": ["Zinc is a metal.", "Zinc roofs last."]},
        {**GOOD, "docs": ["Another.", "TIN is a  metal."], "labels": [0, 1]},
    )
    report = check(store, eval_stores=[held])
    assert kinds(report) == [("query-in-eval", 2), ("pair-in-eval", 3)]
    assert [problem.message for problem in report.problems] == [
        "its query is in the evaluation data with other documents, in dev.jsonl:1",
        "its query and 1 of its 2 documents are in the evaluation data, in dev.jsonl:2",
    ]
    strict = check(store, CheckOptions(on_error="drop", as_errors=frozenset({"query-in-eval"})), [held])
    assert [row.query for row in apply_on_error(store, strict)] == ["what is lead?"]


def test_bad_rows_of_evaluation_data_are_reported(tmp_path: Path) -> None:
    """They are errors of their own file, and leave out no row of the training data."""
    held = store_of(tmp_path / "dev.jsonl", GOOD, b"{")
    report = check(store_of(tmp_path / "train.jsonl", {**GOOD, "query": "q"}), eval_stores=[held])
    assert [(p.kind, p.file, p.line) for p in report.problems] == [("broken-json", "dev.jsonl", 2)]
    assert (report.errors, len(report.error_rows)) == (1, 0)


@pytest.fixture
def mixed(tmp_path: Path) -> RowStore:
    """Good, unreadable, readable but wrong, good."""
    wrong = {"query": "wrong", "pos": ["same"], "neg": ["same"]}
    return store_of(tmp_path / "rows.jsonl", {**GOOD, "query": "first"}, b"{", wrong, {**GOOD, "query": "last"})


def test_errors_stop_by_default(mixed: RowStore) -> None:
    """The message has the counts, the first places, and what to do."""
    with pytest.raises(
        InputError, match=r"2 of 4 rows have errors \(1 broken-json, 1 positive-in.*rows.jsonl:2: not JSON"
    ):
        apply_on_error(mixed, check(mixed))


def test_errors_can_be_dropped(mixed: RowStore) -> None:
    """Rows with errors are left out, and the report says how many."""
    report = check(mixed, CheckOptions(on_error="drop"))
    assert [row.query for row in apply_on_error(mixed, report)] == ["first", "last"]
    assert report.to_dict()["rows_left_out"] == 2


def test_errors_can_be_warned_of(mixed: RowStore) -> None:
    """Rows that can be used are used, wrong as they are; those that cannot are left out."""
    report = check(mixed, CheckOptions(on_error="warn"))
    assert [row.query for row in apply_on_error(mixed, report)] == ["first", "wrong", "last"]
    assert report.to_dict()["rows_left_out"] == 1


def test_no_row_left_and_reports_of_other_data(mixed: RowStore) -> None:
    """Training on nothing, or by another data's report, is refused."""
    with pytest.raises(InputError, match="no row is left"):
        apply_on_error(mixed[1:3], check(mixed[1:3], CheckOptions(on_error="drop")))
    with pytest.raises(InputError, match="the report is of 4 rows, and the data has 2"):
        apply_on_error(mixed[1:3], check(mixed))


def test_a_view_is_checked_by_its_own_rows(mixed: RowStore) -> None:
    """Rows of a slice are numbered within it, and named by their lines in the file."""
    report = check(mixed[2:], CheckOptions(on_error="drop"))
    assert (list(report.error_rows), kinds(report)) == ([0], [("positive-in-negatives", 3)])


def test_all_are_counted_and_some_are_kept(tmp_path: Path) -> None:
    """A limit on the problems kept changes neither counts nor decisions."""
    rows = [{**GOOD, "query": f"q{row}", "docs": ["a", ""]} for row in range(9)]
    store = store_of(tmp_path / "rows.jsonl", *rows)
    few, every = check(store, CheckOptions(examples=2)), check(store, CheckOptions(examples=None))
    assert (kinds(few), len(every.problems)) == ([("empty-doc", 1), ("empty-doc", 2)], 9)
    assert few.counts == every.counts == {"empty-doc": 9}
    assert list(few.error_rows) == list(every.error_rows) == list(range(9))


def test_misspelled_keys_are_told_once_a_file(tmp_path: Path) -> None:
    """A key that no row's format reads is one warning, with its count, and never an error of rows."""
    rows = [{**GOOD, "query": f"q{row}", "label": 1} for row in range(5)]
    (problem,) = check(store_of(tmp_path / "rows.jsonl", GOOD, *rows)).problems
    assert str(problem) == "rows.jsonl:2: the format canonical does not read 'label', which 5 rows of this file have"


def test_sources_formats_and_progress(tmp_path: Path) -> None:
    """Rows are counted by source and by format, and progress ends at the rows of both stores."""
    store = store_of(tmp_path / "rows.jsonl", GOOD, {"query": "q", "pos": ["a"], "neg": ["b"], "source": "web"}, b"{")
    seen: list[tuple[int, int]] = []
    report = check(store, None, [store_of(tmp_path / "dev.jsonl", {**GOOD, "query": "q"})], lambda *at: seen.append(at))
    assert report.sources == {"rows.jsonl": 1, "web": 1}
    assert report.formats == {"canonical": 1, "pos-neg": 1}
    assert seen == [(row, 4) for row in range(1, 5)]


def test_texts_of_several_rows_are_counted(tmp_path: Path) -> None:
    """They cannot be in one step where texts are to be distinct; a prompt makes another text, a repeat in a row
    none."""
    rows: list[dict[str, Any]] = [
        {"query": "q", "docs": ["a", "b"], "labels": [1, 0]},
        {"query": "q", "docs": ["b", "c", "c"], "labels": [1, 0, 0]},
        {"query": "q", "docs": ["c"], "labels": [1], "instruction": "find", "prompts": "passage: "},
    ]
    report = check(store_of(tmp_path / "rows.jsonl", *rows))
    assert report.to_dict()["texts"] == {
        "queries": 2, "queries_in_several_rows": 1, "documents": 4, "documents_in_several_rows": 1,
        "rows_with_instruction": 1, "rows_with_prompts": 1,
    }  # fmt: skip


@pytest.mark.parametrize("options", [{"on_error": "skip"}, {"as_errors": frozenset({"typo"})}, {"max_query": 0}])
def test_options_that_do_not_exist(options: dict[str, Any]) -> None:
    """An unknown mode or kind, and a limit of nothing, are refused."""
    with pytest.raises(InputError):
        CheckOptions(**options)


def test_hashes_find_what_a_dict_finds() -> None:
    """The index and the list of repeats agree with a dict on random numbers, empty ones included."""
    generator = random.Random(3)
    for size in (0, 1, 50, 500):
        values = [generator.randrange(200) << 56 for _ in range(size)]
        first: dict[int, int] = {}
        index = HashIndex()
        expected = []
        for place, value in enumerate(values):
            index.add(value, place)
            if first.setdefault(value, place) != place:
                expected.append((place, first[value]))
        assert find_repeats(array("Q", values)) == expected
        for value in (number << 56 for number in range(201)):
            assert index.find(value) == first.get(value)
    assert digest("a", None) != digest("a")


def test_examples_have_no_errors() -> None:
    """The files that show the formats are fit to train on."""
    assert check([EXAMPLES / "*.jsonl", EXAMPLES / "*.tsv"]).errors == 0


@pytest.mark.data
def test_real_files(data: Path) -> None:
    """FlagEmbedding's examples are sound; RAG-Retrieval's sample of T2Ranking has positives among its negatives."""
    flag = check([data / "train_flagembedding_examples" / "*.jsonl"])
    assert (flag.rows, flag.errors, flag.formats) == (100, 0, {"pos-neg": 100})
    folder = data / "zh_t2rank100"
    sample = check([folder / "t2rank_100.jsonl"], CheckOptions(label_scale=LabelScale(), on_error="drop"))
    texts = [json.loads(line) for line in (folder / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines()]
    contradicted = [row for row, record in enumerate(texts) if _stripped(record["pos"]) & _stripped(record["neg"])]
    assert list(sample.error_rows) == contradicted
    assert contradicted
    small = open_rows([folder / "t2rank_100.small.jsonl"])
    assert check([folder / "t2rank_100.distill.standard.jsonl"], None, [small]).counts["pair-in-eval"] == len(
        {row.query for row in small}
    )


def _stripped(texts: list[str]) -> set[str]:
    return {text.strip() for text in texts}
