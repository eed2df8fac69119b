"""Checks of a single row: pure functions of its texts, labels and scores."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from typing import NamedTuple

from rerank_core.errors import InputError, short
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow

__all__ = ["Finding", "check_query_length", "check_row", "similar_keys"]

_SURROGATE = re.compile("[\ud800-\udfff]")


class Finding(NamedTuple):
    """A problem of a row. ``doc`` is the index of the document, or 0 for a problem of the whole row."""

    kind: str
    message: str
    doc: int = 0


def check_row(row: TrainingRow, scale: LabelScale | None) -> Iterator[Finding]:
    """The problems of a row, including labels outside ``scale`` if a scale is given."""
    if not row.query.strip():
        yield Finding("empty-query", f"the query is {row.query!r}")
    for doc, text in enumerate(row.docs):
        if not text.strip():
            yield Finding("empty-doc", f"document {doc + 1} is {short(text)}", doc)
    for position, text in enumerate((row.query, *row.docs, row.instruction or "", *(row.prompts or ()))):
        if _SURROGATE.search(text):
            yield Finding(
                "lone-surrogate", f"half a character (a lone surrogate) in {text[:40]!a}", _doc(position, row)
            )
    yield from _doubled(row)
    yield from _numbers(row, scale)
    yield from _repeats(row)
    yield from _signal(row)


def check_query_length(row: TrainingRow, limit: int, count: Callable[[str], int] | None) -> Finding | None:
    """A finding if the query has more than ``limit`` tokens, or characters if ``count`` is None."""
    length = len(row.query) if count is None else count(row.query)
    unit = "characters" if count is None else "tokens"
    return Finding("long-query", f"the query has {length} {unit}, and {limit} are allowed") if length > limit else None


def similar_keys(key: str, known: str) -> bool:
    """Whether a key may be a misspelling or a longer form of a known key: ``negs`` or ``hard_negatives`` of ``neg``."""
    threshold = 0.6 if len(known) < 5 else 0.8
    return known in key.lower() or SequenceMatcher(None, key.lower(), known).ratio() >= threshold


def _doc(position: int, row: TrainingRow) -> int:
    """The document of a position in (query, *documents, instruction, ...); 0 for all that is no document."""
    return position - 1 if 1 <= position <= len(row.docs) else 0


def _doubled(row: TrainingRow) -> Iterator[Finding]:
    if row.instruction and row.instruction.strip() and row.query.startswith(row.instruction):
        yield Finding("doubled-prompt", f"the query already begins with its instruction {short(row.instruction)}")
    for doc, (prompt, text) in enumerate(zip(row.prompts or (), row.docs, strict=False)):
        if prompt.strip() and text.startswith(prompt):
            yield Finding("doubled-prompt", f"document {doc + 1} already begins with its prompt {short(prompt)}", doc)


def _numbers(row: TrainingRow, scale: LabelScale | None) -> Iterator[Finding]:
    for name, values in (("label", row.labels), ("score", row.scores)):
        for doc, value in enumerate(values or ()):
            if not math.isfinite(value):
                yield Finding("not-finite", f"the {name} of document {doc + 1} is {value!r}", doc)
            elif name == "label" and scale is not None:
                try:
                    scale(value)
                except InputError as error:
                    yield Finding("label-out-of-range", f"document {doc + 1}: {error}", doc)


def _repeats(row: TrainingRow) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for doc, text in enumerate(row.docs):
        earlier = first.setdefault(text.strip(), doc)
        if earlier == doc or not text.strip():
            continue
        where = f"document {doc + 1} has the text of document {earlier + 1}"
        if row.labels is not None and row.labels[doc] != row.labels[earlier]:
            labels = f"{row.labels[doc]:g} instead of {row.labels[earlier]:g}"
            yield Finding("positive-in-negatives", f"{where} and the label {labels}: {short(text)}", doc)
        else:
            yield Finding("duplicate-docs", f"{where}: {short(text)}", doc)


def _signal(row: TrainingRow) -> Iterator[Finding]:
    targets = [values for values in (row.labels, row.scores) if values is not None]
    if not targets:
        yield Finding("unlabeled", "it has neither labels nor scores")
    elif len(row.docs) == 1:
        yield Finding("single-doc", "it has one document")
    elif all(len(set(values)) == 1 for values in targets):
        name = "label" if row.labels is not None else "score"
        yield Finding("all-equal", f"all {len(row.docs)} documents have the {name} {targets[0][0]:g}")
