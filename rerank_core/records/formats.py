"""From one decoded object to a `TrainingRow`, whichever framework it was written for.

The format is found per row, from its keys: never from the first row of a file or from its name. Keys, by format
(``query`` and the documents are needed; every format may also have ``instruction``, ``source`` and ``id``):

- ``canonical``: query, docs, labels, scores.
- ``pos-neg`` (RAG-Retrieval, FlagEmbedding): query, pos, neg, pos_scores, neg_scores; or query, pos, scores.
- ``pointwise`` (RAG-Retrieval): query, content, and label or score; sentence-transformers' query, document, label.
- ``labeled-list`` (sentence-transformers): query, documents, labels.
- ``grouped`` (RAG-Retrieval): query, hits, each with content, and label or score.
- ``columns`` (sentence-transformers): anchor or query, positive, negative, negative_1, ...; MTEB's lists too.
- ``sentence-pair`` (sentence-transformers): sentence1, sentence2, and label or score, both what a person said.
- ``messages`` (ms-swift): messages, positive_messages, negative_messages.
- ``response`` (ms-swift): query, response, rejected_response.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, TypeAlias

from rerank_core.errors import one_of, short
from rerank_core.records.fields import Record, RowError, list_within, number, numbers, one_or_more, present, text, texts
from rerank_core.records.ms_swift import messages_row
from rerank_core.records.training_row import TrainingRow

__all__ = ["FORMATS", "KEYS", "ScoresAre", "format_of", "joined", "keys_of", "row_of", "unread"]

ScoresAre: TypeAlias = Literal["teacher", "labels"]

_QUERY = ("query", "anchor", "question")
_DOC = ("content", "document", "passage", "answer", "response", "doc", "text")
_DOCS = ("documents", "passages", "answers", "responses", "texts")
_INSTRUCTION = ("instruction", "prompt", "prompt_for_query")
_ALWAYS = frozenset({*_INSTRUCTION, "source", "id"})
_NUMBERED = re.compile(r"negative_(\d+)")


@dataclass(frozen=True)
class _Format:
    """One way to write a row: it has one key of each group in ``needs``, and may have those in ``reads``."""

    needs: tuple[frozenset[str], ...]
    reads: frozenset[str]
    convert: Callable[[Record, ScoresAre], TrainingRow]

    def fits(self, keys: frozenset[str]) -> bool:
        return all(keys & group for group in self.needs)

    def knows(self, key: str) -> bool:
        named = key in self.reads or key in _ALWAYS or any(key in group for group in self.needs)
        return named or ("negative" in self.reads and _NUMBERED.fullmatch(key) is not None)


def row_of(
    record: Record, *, scores_are: ScoresAre = "teacher", source: str | None = None, row_id: str | None = None
) -> TrainingRow:
    """The row that a decoded object stands for.

    >>> row_of({"query": "q", "pos": ["a"], "neg": ["b", "c"]}).labels
    (1.0, 0.0, 0.0)

    Args:
        scores_are: what ``pos_scores`` and ``neg_scores`` are: a teacher's scores (FlagEmbedding, and RAG-Retrieval's
            distillation), or graded labels (RAG-Retrieval). The two are spelled alike, so that no rule on the numbers
            could tell a teacher that says 1 or 0 from a person who does. Without negatives, a list that a teacher
            scored has no labels: ``pos`` is then just where its documents lie.
        source: of the row, and ``row_id``: where the record brings none.

    Raises:
        RowError: a format that is not known, or a value that does not fit it.
    """
    one_of(scores_are, ("teacher", "labels"), "scores_are")
    row = _find(record)[1].convert(record, scores_are)
    if not row.docs:
        raise RowError("it has no documents", "no-docs")
    key = present(record, *_INSTRUCTION)
    own = record.get("id")
    return replace(
        row,
        instruction=row.instruction if key is None else text(record[key], key) or None,
        source=source if record.get("source") is None else text(record["source"], "source"),
        id=row_id if own is None else text(str(own) if isinstance(own, int) else own, "id"),
    )


def format_of(record: Record) -> str:
    """The name of a record's format, as this module lists them.

    Raises:
        RowError: none fits, or several do.
    """
    return _find(record)[0]


def unread(record: Record) -> list[str]:
    """Keys that the record's format does not read, sorted; a misspelled ``pos_score`` is one.

    Raises:
        RowError: as `format_of`.
    """
    found = _find(record)[1]
    return sorted(key for key, value in record.items() if value is not None and not found.knows(key))


def keys_of(name: str) -> list[str]:
    """The keys that a format reads, sorted; ``negative`` stands for ``negative_1`` and so on too."""
    form = FORMATS[name]
    return sorted(form.reads.union(_ALWAYS, *form.needs))


def _find(record: Record) -> tuple[str, _Format]:
    filled = frozenset(key for key, value in record.items() if value is not None)
    # A record that fits only with its nulls is one whose text is null, which is worth a better message.
    for keys in (filled, frozenset(record)):
        fitting = _fitting(keys)
        if len(fitting) == 1:
            return fitting[0], FORMATS[fitting[0]]
        if fitting:
            raise RowError(
                f"its keys {sorted(keys)} fit {' and '.join(fitting)}; keep those of one format", "ambiguous-format"
            )
    listed = list_within(record)
    hint = "Known are " + "; ".join(f"{name}: {_spelled(form)}" for name, form in FORMATS.items())
    if listed is not None:
        hint = f"If the rows are in its {listed!r}, take them out: jq '.[\"{listed}\"]' FILE > rows.json"
    raise RowError(f"its keys {short(sorted(record))} are no format known here. {hint}", "unknown-format")


@lru_cache(maxsize=256)
def _fitting(keys: frozenset[str]) -> tuple[str, ...]:
    """The formats that keys fit; the records of a file have few sets of them."""
    return tuple(name for name, form in FORMATS.items() if form.fits(keys))


def _spelled(form: _Format) -> str:
    ordered = (sorted(group, key=lambda key: (key not in ("query", "content"), key)) for group in form.needs)
    return " + ".join("|".join(group) for group in ordered)


def _canonical(record: Record, scores_are: ScoresAre) -> TrainingRow:
    docs = texts(record["docs"], "docs")
    labels, scores = _judged(record, ("labels",), ("scores",), len(docs), needed=False)
    return TrainingRow(text(record["query"], "query"), docs, labels, scores)


def _pos_neg(record: Record, scores_are: ScoresAre) -> TrainingRow:
    pos = texts(record["pos"], "pos")
    neg = () if record.get("neg") is None else texts(record["neg"], "neg")
    query = text(record["query"], "query")
    given = [key for key in ("pos_scores", "neg_scores") if record.get(key) is not None]
    if record.get("scores") is not None:
        if given or neg:
            raise RowError(
                "'scores' goes with 'pos' alone; with 'neg' use pos_scores and neg_scores", "ambiguous-format"
            )
        return TrainingRow(query, pos, scores=numbers(record["scores"], "scores", len(pos)))
    plain = (1.0,) * len(pos), (0.0,) * len(neg)
    if not given:
        return TrainingRow(query, pos + neg, plain[0] + plain[1])
    sides = {"pos_scores": pos, "neg_scores": neg}
    judged = {key: numbers(record[key], key, len(sides[key])) for key in given}
    if scores_are == "labels":
        return TrainingRow(query, pos + neg, judged.get("pos_scores", plain[0]) + judged.get("neg_scores", plain[1]))
    for key, docs in sides.items():
        if docs and key not in judged:
            raise RowError(f"it has {given[0]} but no {key} for its {len(docs)} documents", "length-mismatch")
    scores = judged.get("pos_scores", ()) + judged.get("neg_scores", ())
    return TrainingRow(query, pos + neg, plain[0] + plain[1] if neg else None, scores)


def _pointwise(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query, doc = _one(record, _QUERY), _one(record, _DOC)
    docs = one_or_more(record[doc], doc)
    bare = isinstance(record[doc], str)
    labels, scores = _judged(record, ("label", "labels"), ("score", "scores"), len(docs), bare=bare)
    return TrainingRow(text(record[query], query), docs, labels, scores)


def _labeled_list(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query, key = _one(record, _QUERY), _one(record, _DOCS)
    docs = texts(record[key], key)
    labels, scores = _judged(record, ("label", "labels"), ("score", "scores"), len(docs))
    return TrainingRow(text(record[query], query), docs, labels, scores)


def _grouped(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query, hits = text(record["query"], "query"), record["hits"]
    if not isinstance(hits, (list, tuple)):
        raise RowError("hits must be a list of objects with content, and label or score", "not-a-list")
    rows: list[TrainingRow] = []
    for place, hit in enumerate(hits):
        if not isinstance(hit, dict):
            raise RowError(f"hits[{place}] is no object with content, and label or score", "not-an-object")
        doc = text(hit.get("content"), f"hits[{place}].content")
        labels, scores = _judged(hit, ("label",), ("score",), 1, bare=True)
        rows.append(TrainingRow(query, (doc,), labels, scores))
    return joined(rows)


def joined(rows: list[TrainingRow]) -> TrainingRow:
    """Rows of one query as one, in order.

    Raises:
        RowError: some have labels or scores, others have not.
    """
    if not rows:
        raise RowError("it has no documents", "no-docs")
    return replace(
        rows[0],
        docs=tuple(doc for row in rows for doc in row.docs),
        labels=_all_or_none([row.labels for row in rows], "labels"),
        scores=_all_or_none([row.scores for row in rows], "scores"),
    )


def _all_or_none(values: list[tuple[float, ...] | None], name: str) -> tuple[float, ...] | None:
    some = [value for value in values if value is not None]
    if some and len(some) < len(values):
        raise RowError(f"{len(some)} of its {len(values)} documents have {name}", "length-mismatch")
    return tuple(number for value in some for number in value) or None


def _columns(record: Record, scores_are: ScoresAre) -> TrainingRow:
    query = _one(record, _QUERY)
    numbered = sorted((int(m[1]), key) for key in record if (m := _NUMBERED.fullmatch(key)))
    pos = one_or_more(record["positive"], "positive")
    names = [key for key in ("negative", *(key for _, key in numbered)) if record.get(key) is not None]
    neg = tuple(doc for key in names for doc in one_or_more(record[key], key))
    labels, scores = _judged(record, ("label", "labels"), ("score", "scores"), len(pos + neg), needed=False)
    plain = (1.0,) * len(pos) + (0.0,) * len(neg)
    return TrainingRow(text(record[query], query), pos + neg, labels or plain, scores)


def _sentence_pair(record: Record, scores_are: ScoresAre) -> TrainingRow:
    # Of STS data: both names hold what people said.
    key = _one(record, ("label", "score"))
    docs = (text(record["sentence2"], "sentence2"),)
    return TrainingRow(text(record["sentence1"], "sentence1"), docs, (number(record[key], key),))


def _response(record: Record, scores_are: ScoresAre) -> TrainingRow:
    pos = (text(record["response"], "response"),)
    neg = one_or_more(record["rejected_response"], "rejected_response")
    system = text(record.get("system") or "", "system") or None
    return TrainingRow(text(record["query"], "query"), pos + neg, (1.0,) + (0.0,) * len(neg), instruction=system)


def _one(record: Record, keys: tuple[str, ...]) -> str:
    """The key of ``keys`` that the record has, if only as a null."""
    return present(record, *keys) or next(key for key in keys if key in record)


def _judged(
    record: Record,
    label_keys: tuple[str, ...],
    score_keys: tuple[str, ...],
    count: int,
    *,
    bare: bool = False,
    needed: bool = True,
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Labels and scores of ``count`` documents; ``bare`` is one number instead of a list."""
    found: list[tuple[float, ...] | None] = []
    for keys in (label_keys, score_keys):
        key = present(record, *keys)
        if key is None:
            found.append(None)
        else:
            found.append((number(record[key], key),) if bare else numbers(record[key], key, count))
    if needed and found == [None, None]:
        raise RowError(f"it has no {' or '.join((*label_keys[:1], *score_keys[:1]))}", "no-label")
    return found[0], found[1]


def _format(*needs: str, reads: str = "", convert: Callable[[Record, ScoresAre], TrainingRow]) -> _Format:
    return _Format(tuple(frozenset(group.split("|")) for group in needs), frozenset(reads.split()), convert)


_ASKED, _JUDGED = "|".join(_QUERY), "label labels score scores"

FORMATS = {
    "canonical": _format("query", "docs", reads="labels scores", convert=_canonical),
    "pos-neg": _format("query", "pos", reads="neg pos_scores neg_scores scores", convert=_pos_neg),
    "pointwise": _format(_ASKED, "|".join(_DOC), "label|labels|score|scores", convert=_pointwise),
    "labeled-list": _format(_ASKED, "|".join(_DOCS), "label|labels|score|scores", convert=_labeled_list),
    "grouped": _format("query", "hits", convert=_grouped),
    "columns": _format(_ASKED, "positive", reads=f"negative {_JUDGED}", convert=_columns),
    "sentence-pair": _format("sentence1", "sentence2", "label|score", convert=_sentence_pair),
    "messages": _format(
        "messages", "positive_messages", reads="negative_messages", convert=lambda r, _: messages_row(r)
    ),
    "response": _format("query", "response", "rejected_response", reads="system", convert=_response),
}

# All keys that some format reads, but for negative_1 and so on.
KEYS = _ALWAYS.union(*(form.reads.union(*form.needs) for form in FORMATS.values()))
