"""Rows of every framework's format, and what is not a row of any."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import pytest

from helpers.examples import EXAMPLES
from rerank_core.errors import InputError
from rerank_core.records import row_formats
from rerank_core.records.fields import RowError
from rerank_core.records.row_formats import FORMATS, format_of, to_training_row, unread_keys
from rerank_core.records.training_row import TrainingRow


def examples(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines() if line]


def judged(name: str) -> list[tuple[int, tuple[float, ...] | None, tuple[float, ...] | None, str | None]]:
    rows = [to_training_row(record) for record in examples(name)]
    return [(len(row.docs), row.labels, row.scores, row.instruction) for row in rows]


def test_canonical() -> None:
    """Everything a row can hold is read; labels and scores may both be there, or neither."""
    kettle, *others = (to_training_row(record) for record in examples("canonical.jsonl"))
    assert kettle == TrainingRow(
        "how do I descale a kettle?",
        (
            "Boil equal parts of vinegar and water, leave it for an hour, then rinse twice.",
            "Kettles were first made of bronze.",
            "Lemon juice also removes limescale.",
        ),
        (3.0, 0.0, 2.0),
        instruction="Find practical advice",
        source="household",
        id="kettle",
    )
    assert [(row.labels, row.scores) for row in others] == [((1.0, 0.0), (4.5, -2.25)), (None, None)]


def test_positives_and_negatives() -> None:
    """Positives are 1, negatives 0; a prompt under either name is the instruction."""
    assert judged("pos_neg.jsonl") == [
        (3, (1.0, 0.0, 0.0), None, "Find passages that answer the question"),
        (3, (1.0, 1.0, 0.0), None, None),
        (1, (1.0,), None, "question: "),
    ]


def test_scores_of_positives_and_negatives_are_what_the_reader_says() -> None:
    """A teacher's scores stand beside labels 1 and 0, which a list without negatives lacks; or they are the labels."""
    assert judged("pos_neg_scores.jsonl") == [
        (3, (1.0, 0.0, 0.0), (2.0, 1.0, 0.0), None),
        (2, None, (2.0, 0.0), None),
    ]
    rows = [to_training_row(record, scores_are="labels") for record in examples("pos_neg_scores.jsonl")]
    assert [(row.labels, row.scores) for row in rows] == [((2.0, 1.0, 0.0), None), ((2.0, 0.0), None)]
    with pytest.raises(InputError, match="scores_are is 'guess'"):
        to_training_row({"query": "q", "pos": ["a"]}, scores_are="guess")  # type: ignore[arg-type]


def test_graded_positives_leave_other_negatives_at_zero() -> None:
    """RAG-Retrieval's default where only one side is scored; a teacher who scored one side only is an error."""
    record = {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [2]}
    assert to_training_row(record, scores_are="labels").labels == (2.0, 0.0)
    with pytest.raises(RowError, match="it has pos_scores but no neg_scores for its 1 documents"):
        to_training_row(record)


def test_teacher_scores() -> None:
    """Scored pairs in a list, one a line, and in hits, are a teacher's, without labels."""
    assert judged("scored_pairs.jsonl") == [(2, None, (0.91, 0.12), None), (2, None, (0.88, 0.05), None)]
    assert [(labels, scores) for _, labels, scores, _ in judged("teacher_lines.jsonl")] == [
        (None, (0.97,)), (None, (0.02,)), (None, (0.95,))
    ]  # fmt: skip


def test_pointwise_and_grouped() -> None:
    """One document a line with its grade, and all of a query's documents in one line."""
    assert [labels for _, labels, _, _ in judged("pointwise.jsonl")] == [(2.0,), (2.0,), (0.0,), (1.0,), (0.0,)]
    assert judged("grouped.jsonl") == [(3, (2.0, 0.0, 1.0), None, None), (2, None, (0.93, 0.04), None)]


def test_sentence_transformers_columns() -> None:
    """Triplets, numbered negatives in numeric order, MTEB's lists, pairs with a label, lists with labels."""
    triplet, numbered, lists, scored = (to_training_row(record) for record in examples("columns.jsonl"))
    assert (triplet.query, triplet.labels) == ("longest river of the valley", (1.0, 0.0))
    assert numbered.docs == (
        "山谷里最长的河是阿尔恩河。", "山谷里有一座城堡。", "河边有一座磨坊。", "城堡建于十二世纪。"
    )  # fmt: skip
    assert (lists.labels, scored.labels, scored.scores) == ((1.0, 1.0, 0.0), (1.0, 0.0), (8.5, 1.5))
    assert [labels for _, labels, _, _ in judged("labeled_pairs.jsonl")] == [(1.0,), (0.0,), (1.0,)]
    assert [labels for _, labels, _, _ in judged("labeled_lists.jsonl")] == [(1.0, 0.0), (1.0, 0.0, 0.0)]
    assert judged("sentence_pairs.jsonl") == [(1, (4.6,), None, None), (1, (0.0,), None, None)]


def test_swift_conversations() -> None:
    """The last words of the user are the query, those of the system the instruction, candidates the documents."""
    cooper, embedder, fletcher, system = (to_training_row(record) for record in examples("swift.jsonl"))
    assert cooper == TrainingRow(
        "what does a cooper make?",
        ("A cooper makes barrels.", "Oak grows slowly.", "Barrels can be rolled."),
        (1.0, 0.0, 0.0),
        instruction="Judge whether the document answers.",
    )
    assert (embedder.docs, embedder.labels, embedder.instruction) == (("箍桶匠制作木桶。",), (1.0,), None)
    assert (fletcher.docs[0], fletcher.labels) == ("A fletcher makes arrows.", (1.0, 0.0, 0.0))
    assert (system.docs[1], system.instruction) == ("弓用紫杉木制成。", "判断文档是否回答问题。")


def test_prompts_stand_before_documents() -> None:
    """One prompt for all documents or one for each, in any format; a model reads it with the document."""
    texts = [to_training_row(record).texts for record in examples("prompts.jsonl")]
    assert texts == [("passage: vinegar", "passage: bronze"), ("title: kettles; text: vinegar", "bronze")]
    hits = [{"content": "a", "label": 1}, {"content": "b", "label": 0}]
    assert to_training_row({"query": "q", "hits": hits, "prompts": ["x ", "y "]}).texts == ("x a", "y b")
    assert to_training_row({"query": "q", "pos": ["a"]}).prompts is None


def test_a_text_alone_is_its_own_document() -> None:
    """RAG-Retrieval's rows for the distillation of embeddings hold a text and nothing else, and get no label."""
    rows = [to_training_row(record) for record in examples("texts.jsonl")]
    assert [(row.query, row.docs, row.labels, row.instruction) for row in rows] == [
        ("descale a kettle", ("descale a kettle",), None, "question: "),
        ("Lemon juice also removes limescale.", ("Lemon juice also removes limescale.",), None, None),
    ]


@pytest.mark.parametrize("record", [{"query": "q", "positve": ["a"]}, {"query": "q", "pos": None}, {"query": None}])
def test_a_row_with_a_fault_is_no_text(record: dict[str, Any]) -> None:
    """A misspelled or missing list of documents does not turn a row into a text alone."""
    with pytest.raises(RowError):
        to_training_row(record)


def test_every_format_has_an_example() -> None:
    """The example files hold each format that is known, and each of their rows is of one."""
    found = {format_of(record) for path in EXAMPLES.glob("*.jsonl") for record in examples(path.name)}
    assert found == set(FORMATS)


def test_the_documentation_lists_every_format() -> None:
    """The module's docstring, which users read, names the formats that exist and no other."""
    assert re.findall(r"^- ``([a-z-]+)``", row_formats.__doc__ or "", re.MULTILINE) == list(FORMATS)


@pytest.mark.parametrize(
    ("record", "kind", "message"),
    [
        ({"query": "q", "pos": "abc"}, "string-for-list", "pos is the string 'abc'; it must be a list of strings"),
        ({"query": "q", "docs": "abc"}, "string-for-list", "docs is the string"),
        ({"query": "q", "documents": "abc", "labels": [1]}, "string-for-list", "documents is the string"),
        ({"query": "q", "pos": ["a", None]}, "not-a-string", r"pos\[1\] is None; it must be a string"),
        ({"query": None, "pos": ["a"]}, "not-a-string", "query is None"),
        ({"query": "q", "content": None, "label": 1}, "not-a-string", "content is None"),
        ({"query": ["q"], "pos": ["a"]}, "not-a-string", "query is "),
        ({"query": "q", "docs": {"a": 1}}, "not-a-list", "docs is "),
        ({"query": "q", "docs": []}, "no-docs", "no documents"),
        ({"query": "q", "hits": []}, "no-docs", "no documents"),
        ({"query": "q", "docs": ["a", "b"], "labels": [1]}, "length-mismatch", "labels has 1 numbers for 2 documents"),
        ({"query": "q", "pos": ["a"], "scores": [1, 2]}, "length-mismatch", "scores has 2 numbers for 1 documents"),
        ({"query": "q", "pos": ["a"], "scores": 1}, "not-a-list", "scores is 1; it must be a list"),
        ({"query": "q", "content": "a", "label": "1"}, "not-a-number", "label is '1'; it must be a number"),
        ({"query": "q", "content": "a", "label": None}, "no-label", "no label or score"),
        ({"query": "q", "content": ["a"], "label": 1}, "not-a-list", "label is 1"),
        ({"query": "q", "hits": [{"content": "a"}]}, "no-label", "no label or score"),
        ({"query": "q", "hits": ["a"]}, "not-an-object", r"hits\[0\]"),
        ({"query": "q", "hits": {"content": "a"}}, "not-a-list", "hits must be a list"),
        (
            {"query": "q", "hits": [{"content": "a", "label": 1}, {"content": "b", "score": 1}]},
            "length-mismatch",
            "1 of its 2 documents have labels",
        ),
        ({"query": "q", "positive": "a", "negative": "b", "score": 0.5}, "not-a-list", "score is 0.5"),
        ({"query": "q", "pos": ["a"], "neg": ["b"], "scores": [1]}, "ambiguous-format", "is read only without 'neg'"),
        ({"query": "q", "pos": ["a"], "docs": ["b"]}, "ambiguous-format", "fit canonical and pos-neg"),
        ({"query": "q", "anchor": "q", "positive": "a"}, "ambiguous-format", "'query' and 'anchor'"),
        (
            {"query": "q", "pos": ["a"], "prompt": "p", "instruction": "i"},
            "ambiguous-format",
            "'instruction' and 'prom",
        ),
        ({"query": "q", "answers": ["a"]}, "unknown-format", r"\['answers', 'query'\] .*canonical: query \+ docs;"),
        ({}, "unknown-format", "fit no format"),
        ({"messages": [], "positive_messages": []}, "no-query", "no user message"),
        ({"messages": "hello", "positive_messages": []}, "not-a-list", "messages is 'hello'"),
        ({"messages": ["hello"], "positive_messages": []}, "not-an-object", r"messages\[0\] is 'hello'"),
        (
            {"messages": [{"role": "user", "content": "q"}], "positive_messages": [[]]},
            "not-one-text",
            r"positive_messages\[0\] has 0 messages",
        ),
        ({"query": "q", "docs": ["a"], "id": ["x"]}, "not-a-string", "id is "),
        (
            {"query": "q", "docs": ["a", "b"], "prompts": ["p"]},
            "length-mismatch",
            "prompts has 1 strings for 2 documents",
        ),
        ({"query": "q", "docs": ["a"], "prompts": [1]}, "not-a-string", r"prompts\[0\] is 1"),
        ({"query": "q", "docs": ["a"], "source": 3}, "not-a-string", "source is 3"),
    ],
)
def test_what_is_no_row(record: dict[str, Any], kind: str, message: str) -> None:
    """A record that is no row says why, with the value, and of which kind it is; no format is guessed."""
    with pytest.raises(RowError, match=message) as caught:
        to_training_row(record)
    assert caught.value.kind == kind


def test_nulls_are_absent() -> None:
    """Columns of other rows, which Parquet fills with nulls, change nothing."""
    record = {"query": "q", "pos": ["a"], "neg": None, "pos_scores": None, "content": None, "label": None, "id": None}
    assert to_training_row(record) == to_training_row({"query": "q", "pos": ["a"]})
    assert (format_of(record), unread_keys(record)) == ("pos-neg", [])


def test_keys_that_are_not_read_are_found() -> None:
    """A misspelled key is not read by its format, and that can be asked; numbered negatives are read."""
    assert unread_keys({"query": "q", "pos": ["a"], "pos_score": [1], "type": "normal", "source": "s"}) == [
        "pos_score",
        "type",
    ]
    assert unread_keys({"query": "q", "positive": "a", "negative_3": "b", "negatives": "c"}) == ["negatives"]


def test_defaults_for_source_and_id() -> None:
    """What the record brings wins; a number as id becomes text; an empty instruction is none."""
    record = {"query": "q", "docs": ["a"], "instruction": ""}
    row = to_training_row(record, source="file", row_id="file:1")
    assert (row.source, row.id, row.instruction) == ("file", "file:1", None)
    row = to_training_row({**record, "id": 7, "source": "web"}, source="file", row_id="file:1")
    assert (row.source, row.id) == ("web", "7")


def test_numbers_of_any_size() -> None:
    """NaN reaches the report as it is, and an integer too large for a float as an infinity."""
    row = to_training_row(json.loads('{"query": "q", "docs": ["a", "b"], "labels": [NaN, 1' + "0" * 400 + "]}"))
    assert str(row.labels) == "(nan, inf)"


def test_an_error_survives_a_worker() -> None:
    """Pickled and unpickled, it has its reason, kind and place."""
    error = pickle.loads(pickle.dumps(RowError("bad", "no-docs").at("train.jsonl", 3)))
    assert (str(error), error.reason, error.kind, error.line) == ("train.jsonl:3: bad", "bad", "no-docs", 3)
