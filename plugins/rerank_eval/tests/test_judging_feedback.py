"""Clicks, thumbs and labels from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank_core import InputError
from rerank_eval.judging.feedback import FeedbackFacts, with_feedback
from rerank_eval.sets.judged_set import JudgedSet
from rerank_eval.sets.read import read_set
from rerank_eval.sets.usable import usable


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def of(*records: dict[str, Any], name: str = "clicks.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(one) for one in records), encoding="utf-8")
        return path

    return of


@pytest.fixture
def judged(write: Callable[..., Path]) -> JudgedSet:
    rows = [{"query": f"query {at}", "docs": ["a", "b", "c"], "id": f"q{at}"} for at in range(3)]
    return read_set(str(write(*rows, name="dev.jsonl")), need_labels=False)


def gains(found: JudgedSet) -> list[dict[str, float | None]]:
    return [
        {one.text: one.gain for one in sorted(query.candidates, key=lambda one: one.text)} for query in found.queries
    ]


def test_a_click_makes_a_document_relevant(judged: JudgedSet, write: Callable[..., Path]) -> None:
    path = write(
        {"query": " query 0", "doc": "a", "clicked": False},
        {"query": "query 0", "doc": "a", "clicked": True},
        {"query": "query 0", "doc": "b", "clicked": 0},
        {"query_id": "q1", "id": 2, "clicked": "true"},
        {"query": "query 0", "doc": "z", "clicked": True},
        {"query": "another", "doc": "a", "clicked": True},
    )
    (found,), facts = with_feedback([judged], path)
    assert gains(found) == [{"a": 1, "b": 0, "c": None}, {"a": None, "b": None, "c": 1}, dict.fromkeys("abc")]
    assert facts == FeedbackFacts("clicked", 6, 3, 2, 5, 0, 0)
    assert facts.notes() == [
        "labels by clicked: 3 pairs, from 6 records",
        "2 records match no query and candidate; the first is line 5",
    ]
    # The candidate's order does not change with its labels, and so kept results stay valid.
    assert found.digest == judged.digest
    assert [query.id for query in usable(found).queries] == ["q0", "q1"]
    assert usable(found).facts.not_judged == 1


def test_the_majority_of_thumbs_counts(judged: JudgedSet, write: Callable[..., Path]) -> None:
    thumbs = {"a": ["up", "down", "UP"], "b": ["down", -1], "c": ["👍", "👎"]}
    records = [{"query": "query 0", "doc": doc, "thumb": one} for doc, given in thumbs.items() for one in given]
    (found,), facts = with_feedback([judged], write(*records))
    assert gains(found)[0] == {"a": 1, "b": 0, "c": None}
    assert (facts.pairs, facts.undecided) == (2, 1)
    assert facts.notes()[1] == "1 pairs have as many thumbs up as down: not judged"


def test_labels_of_a_table(judged: JudgedSet, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("query_id,doc,label\nq0,a,2\nq0,a,1\nq0,b,-1\nq2,c,0.5\n")
    (found,), facts = with_feedback([judged], path)
    assert gains(found) == [{"a": 2, "b": 0, "c": None}, dict.fromkeys("abc"), {"a": None, "b": None, "c": 0.5}]
    assert facts.conflicting == 1


def test_a_document_that_the_first_stage_missed_counts_by_its_id(tmp_path: Path, write: Callable[..., Path]) -> None:
    docs = write({"id": "d1", "text": "pandas"}, {"id": "d2", "text": "bears"}, name="docs.jsonl")
    queries = write({"id": "1", "text": "pandas"[:-1] + "s bamboo"}, name="queries.jsonl")
    found = read_set(f"x=queries={queries},docs={docs}", need_labels=False)
    path = write({"query_id": "1", "id": "d1", "label": 1}, {"query_id": "1", "id": "d2", "label": 2})
    (labelled,), _ = with_feedback([found], path)
    assert [(one.id, one.gain) for one in labelled.queries[0].candidates] == [("d1", 1)]
    assert labelled.queries[0].others == {"d2": 2}


def test_sets_with_judgements_keep_them(judged: JudgedSet, write: Callable[..., Path]) -> None:
    own = read_set(str(write({"query": "query 0", "docs": ["a", "b"], "labels": [0, 1]}, name="own.jsonl")))
    path = write({"query": "query 0", "doc": "a", "clicked": True})
    found = with_feedback([own, judged], path)[0]
    assert found[0] == own
    assert gains(found[1])[0] == {"a": 1, "b": None, "c": None}
    with pytest.raises(InputError, match="labels are for sets without judgements, and 'own' have some"):
        with_feedback([own], path)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            {"doc": "a", "clicked": True},
            r"jsonl:2: it has no query; give its text as 'query' or its id as 'query_id'",
        ),
        ({"query": "query 0", "clicked": True}, r"clicks.jsonl:2: it has no document"),
        ({"query": "query 0", "doc": "a"}, r"clicks.jsonl:2: it has none of clicked, thumb, label; give one"),
        ({"query": "query 0", "doc": "a", "clicked": "perhaps"}, r"clicked is 'perhaps'; it must be true or false"),
        ({"query": "query 0", "doc": "a", "thumb": "up"}, r"it has 'thumb', and the records before it 'clicked'"),
        ({"query": "query 0", "doc": ["a"], "clicked": True}, r"its document is \['a'\]; it must be a text"),
    ],
)
def test_a_faulty_record_is_an_error_with_its_line(
    record: dict[str, Any], message: str, judged: JudgedSet, write: Callable[..., Path]
) -> None:
    with pytest.raises(InputError, match=message):
        with_feedback([judged], write({"query": "query 0", "doc": "a", "clicked": True}, record))


def test_a_file_that_matches_nothing_is_an_error(judged: JudgedSet, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"none of the 1 records of .* matches a query and a candidate"):
        with_feedback([judged], write({"query": "x", "doc": "a", "clicked": True}))
