"""Files of rows as judged sets: every format, and the traps in them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank_core import InputError
from rerank_eval.sets.judged_set import JudgedSet, SetFacts
from rerank_eval.sets.read import read_set, read_sets

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write records as JSON Lines, or a text; returns the path."""

    def of(*records: dict[str, Any], name: str = "dev.jsonl", text: str | None = None) -> str:
        path = tmp_path / name
        path.write_text(text or "\n".join(json.dumps(one, ensure_ascii=False) for one in records), encoding="utf-8")
        return str(path)

    return of


def gains_of(found: JudgedSet) -> list[dict[str, float | None]]:
    """The gain of each candidate by its text."""
    return [{one.text: one.gain for one in query.candidates} for query in found.queries]


PANDA = {"Pandas eat bamboo.": 1.0, "a bear": 0.0, "Paris": 0.0}


@pytest.mark.parametrize(
    "records",
    [
        [{"query": "panda", "positive": ["Pandas eat bamboo."], "negative": ["a bear", "Paris"]}],
        [{"query": "panda", "docs": list(PANDA), "labels": list(PANDA.values())}],
        [{"query": "panda", "pos": ["Pandas eat bamboo."], "neg": ["a bear", "Paris"]}],
        [{"anchor": "panda", "positive": "Pandas eat bamboo.", "negative_1": "a bear", "negative_2": "Paris"}],
        [{"query": "panda", "document": text, "label": label} for text, label in PANDA.items()],
        [{"query": "panda", "hits": [{"content": text, "label": label} for text, label in PANDA.items()]}],
        [
            {
                "messages": [{"role": "user", "content": "panda"}],
                "positive_messages": [[{"role": "assistant", "content": "Pandas eat bamboo."}]],
                "negative_messages": [[{"role": "assistant", "content": text}] for text in ("a bear", "Paris")],
            }
        ],
    ],
    ids=["C-MTEB", "docs-labels", "pos-neg", "columns", "pointwise", "grouped", "messages"],
)
def test_every_format_of_the_trainers_is_read(records: list[dict[str, Any]], write: Write) -> None:
    found = read_set(write(*records))
    assert gains_of(found) == [PANDA]
    assert found.queries[0].text == "panda"
    assert (found.order, found.first_stage, found.facts) == ("shuffled", None, SetFacts(read=1))


@pytest.mark.parametrize("name", ["dev.csv", "dev.tsv", "dev.csv.gz", "dev.parquet"])
def test_tables_are_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    rows = [{"query": "熊猫", "document": text, "label": label} for text, label in PANDA.items()]
    if name == "dev.parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        comma = "\t" if "tsv" in name else ","
        lines = [comma.join(rows[0]), *(comma.join(map(str, row.values())) for row in rows)]
        data = "\n".join(lines).encode("gb18030" if name == "dev.csv" else "utf-8")
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    if name == "dev.csv":
        # Twelve characters are needed before a text is taken for GB18030.
        path.write_bytes(
            path.read_bytes().replace("熊猫".encode("gb18030"), "大熊猫今天的食物是什么样子的".encode("gb18030"))
        )
    found = read_set(f"zh={path}")
    assert gains_of(found) == [PANDA]
    assert (found.name, found.queries[0].text[-2:]) == ("zh", "子的" if name == "dev.csv" else "熊猫")


def test_rows_of_one_query_are_merged(write: Write) -> None:
    """Also across files; a query with another instruction is another query."""
    path = write(
        {"query": "q", "positive": ["a"], "negative": ["b"], "id": "one"},
        {"query": "q", "positive": ["c"], "negative": ["a", "b"], "id": "two"},
        {"query": "q", "positive": ["a"], "negative": ["b"], "id": "one", "instruction": "do"},
    )
    found = read_set(path)
    assert gains_of(found) == [{"a": 1.0, "b": 0.0, "c": 1.0}, {"a": 1.0, "b": 0.0}]
    assert [(query.id, query.instruction) for query in found.queries] == [("one", None), ("one#2", "do")]
    # "a" is once relevant and once not.
    assert found.facts == SetFacts(read=2, merged=1, repeated_documents=2, conflicting=1)


def test_the_order_of_a_file_does_not_give_the_labels_away(write: Write) -> None:
    rows = [{"query": f"q{at}", "positive": ["x", "y"], "negative": list("abcdefgh")} for at in range(50)]
    found, again = read_set(write(*rows)), read_set(write(*reversed(rows), name="reversed.jsonl"))
    positions = [[one.text for one in query.candidates].index("x") for query in found.queries]
    assert len(set(positions)) == 10
    assert 3 < sum(positions) / len(positions) < 6
    # The order depends on the seed and on the query alone.
    orders = {query.text: query.candidates for query in found.queries}
    assert orders == {query.text: query.candidates for query in again.queries}
    assert orders != {query.text: query.candidates for query in read_set(write(*rows), seed=1).queries}
    # An id is the position in the row.
    assert {one.text: one.id for one in found.queries[0].candidates} == {
        text: str(at) for at, text in enumerate("xyabcdefgh")
    }


def test_queries_that_no_order_improves_are_left_out_and_counted(write: Write) -> None:
    path = write(
        {"query": "fine", "positive": ["a"], "negative": ["b"]},
        {"query": "no negative", "positive": ["a"], "negative": []},
        {"query": "no positive", "docs": ["a", "b"], "labels": [0, 0]},
        {"query": "below 0 is not relevant", "docs": ["a", "b"], "labels": [-1, 0]},
        {"query": "no labels", "docs": ["a", "b"]},
        {"query": "graded", "docs": ["a", "b"], "labels": [2, 1]},
        {"query": "equally relevant", "docs": ["a", "b"], "labels": [2, 2]},
    )
    found = read_set(path)
    assert [query.text for query in found.queries] == ["fine", "graded"]
    assert found.facts == SetFacts(read=7, not_judged=1, without_positive=2, without_negative=2)
    assert "2 of 7 queries left out: no negative" in found.facts.notes()
    unjudged = read_set(path, need_labels=False)
    assert len(unjudged.queries) == 7
    assert unjudged.facts.unjudged == 2


def test_own_texts_blanks_and_misspelled_keys_are_counted(write: Write) -> None:
    path = write({"query": "q ", "positive": ["a", " q"], "negative": ["", "b", "a"], "negativ_2": ["c"]})
    found = read_set(path)
    assert gains_of(found) == [{"a": 1.0, "": 0.0, "b": 0.0}]
    assert found.facts == SetFacts(
        read=1, repeated_documents=1, conflicting=1, own_text=1, blank_documents=1, unread_keys=("negativ_2",)
    )


def test_a_sample_is_drawn_with_a_fixed_seed_and_grows(write: Write) -> None:
    path = write(*({"query": f"q{at}", "positive": ["a"], "negative": ["b"][: at % 4]} for at in range(100)))
    few, more = (read_set(path, queries=number) for number in (10, 20))
    assert [query.text for query in few.queries] == [query.text for query in read_set(path, queries=10).queries]
    assert {query.text for query in few.queries} < {query.text for query in more.queries}
    assert few.facts == SetFacts(read=100, without_negative=25, not_sampled=65)
    assert few.digest != more.digest
    assert read_set(path, queries=75).digest == read_set(path).digest


def test_scores_are_read_as_the_caller_says(write: Write) -> None:
    rows = [{"query": "q", "docs": ["a", "b", "c"], "scores": [0.1, 3, 2]}]
    path = write(*rows)
    with pytest.raises(InputError, match="has scores and no labels; add scores=gains if"):
        read_set(path)
    with pytest.raises(InputError, match="has the scores of a retriever and no labels; give labels with --judge"):
        read_set(f"{path},scores=first-stage")
    assert gains_of(read_set(f"{path},scores=gains")) == [{"a": 0.1, "b": 3.0, "c": 2.0}]
    labelled = write({**rows[0], "labels": [1, 0, 0]}, name="labelled.jsonl")
    found = read_set(f"{labelled},scores=first-stage", top=2)
    assert [(one.text, one.first_stage, one.gain) for one in found.queries[0].candidates] == [("b", 3, 0), ("c", 2, 0)]
    assert (found.order, found.first_stage, found.queries[0].others) == ("first-stage", "file", {"0": 1.0})
    assert found.facts == SetFacts(read=1, below_top=1, missed=1)
    assert read_set(labelled).order == "shuffled"
    with pytest.raises(InputError, match=r"labelled.jsonl:1: it has labels and scores"):
        read_set(f"{labelled},scores=gains")
    half = write({"query": "q", "positive": ["a"], "negative": ["b"]}, name="half.jsonl")
    with pytest.raises(InputError, match=r"half.jsonl:1: 2 of its 2 documents have no score"):
        read_set(f"{half},scores=first-stage")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"query": "q"}, r"dev.jsonl:2: it has a query and no documents"),
        ({"query": " ", "docs": ["a"], "labels": [1]}, r"dev.jsonl:2: the query is ' '"),
        ({"query": "q", "docs": ["a"], "labels": [float("nan")]}, r"dev.jsonl:2: its labels are \(nan,\)"),
        ({"query": "q", "docs": ["a"], "labels": [1, 2]}, r"dev.jsonl:2: labels has 2 numbers for 1 documents"),
        ({"q": "q", "d": ["a"]}, r"dev.jsonl:2: its keys \['d', 'q'\] fit no format"),
    ],
)
def test_a_faulty_row_is_an_error_with_its_line(record: dict[str, Any], message: str, write: Write) -> None:
    with pytest.raises(InputError, match=message):
        read_set(write({"query": "fine", "positive": ["a"], "negative": ["b"]}, record))


def test_no_usable_query_is_an_error_that_helps(write: Write) -> None:
    path = write({"query": "q", "positive": ["a"]}, {"query": "r", "positive": ["b"]})
    with pytest.raises(InputError, match=r"2 of 2 queries left out: no negative; candidates=bm25 searches"):
        read_set(path)
    path = write({"query": "q", "positive": ["a"], "negatives": ["b"]})
    with pytest.raises(InputError, match=r"keys that are not read: negatives; correct the names"):
        read_set(path)
    with pytest.raises(InputError, match="queries is 0; it must be at least 1"):
        read_set(path, queries=0)
    with pytest.raises(InputError, match=r"dev' has run='x'; rows have queries and judgements of their own"):
        read_set(f"{path},run=x")


def test_the_digest_names_what_models_read(write: Write) -> None:
    """Corrected labels leave kept results valid; another text or order does not."""
    row = {"query": "q", "docs": ["a", "b"], "labels": [1, 0]}
    first = read_set(write(row)).digest
    assert read_set(write({**row, "labels": [2, 1]})).digest == first
    assert read_set(write({**row, "docs": ["a", "c"]})).digest != first
    assert read_set(write({**row, "query": "p"})).digest != first


def test_any_string_of_json_is_a_text(tmp_path: Path) -> None:
    """Half of a surrogate pair is no Unicode, but valid JSON."""
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps({"query": "q\ud800", "positive": ["a\udfff"], "negative": ["b"]}))
    (query,) = read_set(str(path)).queries
    assert {one.text for one in query.candidates} == {"a\udfff", "b"}


def test_the_encoding_of_files_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_bytes('{"query": "café", "positive": ["crème"], "negative": ["b"]}\n'.encode("cp1252"))
    with pytest.raises(InputError, match="set it with --encoding"):
        read_set(str(path))
    assert read_set(str(path), encoding="cp1252").queries[0].text == "café"
    topics, docs, qrels = (tmp_path / name for name in ("topics.tsv", "docs.tsv", "qrels.txt"))
    topics.write_bytes("1\tcafé\n".encode("cp1252"))
    docs.write_bytes("d1\tUn café crème\nd2\tThé\n".encode("cp1252"))
    qrels.write_bytes("1 0 d1 1\n".encode("cp1252"))
    found = read_set(f"queries={topics},docs={docs},qrels={qrels}", encoding="cp1252")
    assert found.queries[0].candidates[0].text == "Un café crème"


def test_sets_have_different_names(write: Write) -> None:
    path = write({"query": "q", "positive": ["a"], "negative": ["b"]})
    assert [one.name for one in read_sets([path, f"two={path}"])] == ["dev", "two"]
    with pytest.raises(InputError, match="two sets have the name 'dev'; give each a name"):
        read_sets([path, path])
