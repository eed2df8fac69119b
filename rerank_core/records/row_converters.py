"""From one decoded object of each format to a `TrainingRow`; `row_formats` lists the formats and their keys."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Literal, TypeAlias

from rerank_core.records.fields import Record, RowError, number, numbers, one_or_more, present_key, text, texts
from rerank_core.records.training_row import TrainingRow

__all__ = [
    "DOCUMENTS_KEYS", "DOCUMENT_KEYS", "NUMBERED_NEGATIVE", "QUERY_KEYS", "ScoresAre", "canonical", "columns",
    "grouped", "labeled_list", "merge_rows", "pointwise", "pos_neg", "prompts_of", "response", "sentence_pair",
    "text_alone",
]  # fmt: skip

ScoresAre: TypeAlias = Literal["teacher", "labels"]

QUERY_KEYS = ("query", "anchor", "question")
DOCUMENT_KEYS = ("content", "document", "passage", "answer", "response", "doc", "text")
DOCUMENTS_KEYS = ("documents", "passages", "answers", "responses", "texts")
NUMBERED_NEGATIVE = re.compile(r"negative_(\d+)")


def canonical(record: Record, scores_are: ScoresAre) -> TrainingRow:
    docs = texts(record["docs"], "docs")
    labels, scores = _labels_and_scores(record, ("labels",), ("scores",), len(docs), needed=False)
    return TrainingRow(text(record["query"], "query"), docs, labels, scores)


def pos_neg(record: Record, scores_are: ScoresAre) -> TrainingRow:
    pos = texts(record["pos"], "pos")
    neg = () if record.get("neg") is None else texts(record["neg"], "neg")
    query = text(record["query"], "query")
    score_keys = [key for key in ("pos_scores", "neg_scores") if record.get(key) is not None]
    if record.get("scores") is not None:
        if score_keys or neg:
            raise RowError(
                "'scores' is read only without 'neg'; with 'neg' use pos_scores and neg_scores", "ambiguous-format"
            )
        return TrainingRow(query, pos, scores=numbers(record["scores"], "scores", len(pos)))
    pos_labels, neg_labels = (1.0,) * len(pos), (0.0,) * len(neg)
    if not score_keys:
        return TrainingRow(query, pos + neg, pos_labels + neg_labels)
    docs_of = {"pos_scores": pos, "neg_scores": neg}
    values = {key: numbers(record[key], key, len(docs_of[key])) for key in score_keys}
    if scores_are == "labels":
        return TrainingRow(
            query, pos + neg, values.get("pos_scores", pos_labels) + values.get("neg_scores", neg_labels)
        )
    for key, docs in docs_of.items():
        if docs and key not in values:
            raise RowError(f"it has {score_keys[0]} but no {key} for its {len(docs)} documents", "length-mismatch")
    scores = values.get("pos_scores", ()) + values.get("neg_scores", ())
    return TrainingRow(query, pos + neg, pos_labels + neg_labels if neg else None, scores)


def pointwise(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query, doc = _key_of(record, QUERY_KEYS), _key_of(record, DOCUMENT_KEYS)
    docs = one_or_more(record[doc], doc)
    bare = isinstance(record[doc], str)
    labels, scores = _labels_and_scores(record, ("label", "labels"), ("score", "scores"), len(docs), bare=bare)
    return TrainingRow(text(record[query], query), docs, labels, scores)


def labeled_list(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query, key = _key_of(record, QUERY_KEYS), _key_of(record, DOCUMENTS_KEYS)
    docs = texts(record[key], key)
    labels, scores = _labels_and_scores(record, ("label", "labels"), ("score", "scores"), len(docs))
    return TrainingRow(text(record[query], query), docs, labels, scores)


def grouped(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query, hits = text(record["query"], "query"), record["hits"]
    if not isinstance(hits, (list, tuple)):
        raise RowError("hits must be a list of objects with content, and label or score", "not-a-list")
    rows: list[TrainingRow] = []
    for position, hit in enumerate(hits):
        if not isinstance(hit, dict):
            raise RowError(f"hits[{position}] is not an object with content, and label or score", "not-an-object")
        doc = text(hit.get("content"), f"hits[{position}].content")
        labels, scores = _labels_and_scores(hit, ("label",), ("score",), 1, bare=True)
        rows.append(TrainingRow(query, (doc,), labels, scores))
    return merge_rows(rows)


def merge_rows(rows: list[TrainingRow]) -> TrainingRow:
    """Merge the rows of one query into one row, with the documents in order.

    Raises:
        RowError: there are no rows, or only some of them have labels or scores.
    """
    if not rows:
        raise RowError("it has no documents", "no-docs")
    return replace(
        rows[0],
        docs=tuple(doc for row in rows for doc in row.docs),
        labels=_all_or_none([row.labels for row in rows], "labels"),
        scores=_all_or_none([row.scores for row in rows], "scores"),
        prompts=_prompts(rows),
    )


def _prompts(rows: list[TrainingRow]) -> tuple[str, ...] | None:
    """The prompts of all documents; None where no row has any."""
    if all(row.prompts is None for row in rows):
        return None
    return tuple(prompt for row in rows for prompt in row.prompts or ("",) * len(row.docs))


def prompts_of(value: object, count: int) -> tuple[str, ...]:
    """The prompt of each of ``count`` documents, from one string for all or a list.

    Raises:
        RowError: another type, or a list of another length.
    """
    if isinstance(value, str):
        return (value,) * count
    given = texts(value, "prompts")
    if len(given) != count:
        raise RowError(f"prompts has {len(given)} strings for {count} documents", "length-mismatch")
    return given


def _all_or_none(values: list[tuple[float, ...] | None], name: str) -> tuple[float, ...] | None:
    """The numbers of all rows; None where no row has any."""
    present = [value for value in values if value is not None]
    if present and len(present) < len(values):
        raise RowError(f"{len(present)} of its {len(values)} documents have {name}", "length-mismatch")
    return tuple(number for value in present for number in value) or None


def columns(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query = _key_of(record, QUERY_KEYS)
    numbered = sorted((int(m[1]), key) for key in record if (m := NUMBERED_NEGATIVE.fullmatch(key)))
    pos = one_or_more(record["positive"], "positive")
    names = [key for key in ("negative", *(key for _, key in numbered)) if record.get(key) is not None]
    neg = tuple(doc for key in names for doc in one_or_more(record[key], key))
    labels, scores = _labels_and_scores(record, ("label", "labels"), ("score", "scores"), len(pos + neg), needed=False)
    default_labels = (1.0,) * len(pos) + (0.0,) * len(neg)
    return TrainingRow(text(record[query], query), pos + neg, labels or default_labels, scores)


def sentence_pair(record: Record, scores_are: ScoresAre) -> TrainingRow:
    # From semantic textual similarity data sets, where both names hold human ratings.
    key = _key_of(record, ("label", "score"))
    docs = (text(record["sentence2"], "sentence2"),)
    return TrainingRow(text(record["sentence1"], "sentence1"), docs, (number(record[key], key),))


def text_alone(record: Record, scores_are: ScoresAre) -> TrainingRow:
    # For distillation from a teacher's vectors: the text is the query and the document, and learns one on each side.
    query = text(record["query"], "query")
    return TrainingRow(query, (query,))


def response(record: Record, scores_are: ScoresAre) -> TrainingRow:
    pos = (text(record["response"], "response"),)
    neg = one_or_more(record["rejected_response"], "rejected_response")
    system = text(record.get("system") or "", "system") or None
    return TrainingRow(text(record["query"], "query"), pos + neg, (1.0,) + (0.0,) * len(neg), instruction=system)


def _key_of(record: Record, keys: tuple[str, ...]) -> str:
    """The key of ``keys`` that the record has, even where its value is null."""
    return present_key(record, *keys) or next(key for key in keys if key in record)


def _labels_and_scores(
    record: Record,
    label_keys: tuple[str, ...],
    score_keys: tuple[str, ...],
    count: int,
    *,
    bare: bool = False,
    needed: bool = True,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Labels and scores of ``count`` documents.

    Args:
        bare: each is one number instead of a list.
        needed: labels or scores must be there.
    """
    values: list[tuple[float, ...] | None] = []
    for keys in (label_keys, score_keys):
        key = present_key(record, *keys)
        if key is None:
            values.append(None)
        else:
            values.append((number(record[key], key),) if bare else numbers(record[key], key, count))
    if needed and values == [None, None]:
        raise RowError(f"it has no {' or '.join((*label_keys[:1], *score_keys[:1]))}", "no-label")
    return values[0], values[1]
