"""The formats of training rows, and the conversion of a decoded object of any of them to a `TrainingRow`.

The format is determined for each row from its keys, never from the first row of a file or from the file's name. Keys
by format (``query`` and the documents are required; every format may also have ``instruction``, ``source``, ``id`` and
``prompts``: a text to put before each document, one string for all or one per document):

- ``canonical``: query, docs, labels, scores.
- ``pos-neg`` (RAG-Retrieval, FlagEmbedding): query, pos, neg, pos_scores, neg_scores; or query, pos, scores.
- ``pointwise`` (RAG-Retrieval): query, content, and label or score; sentence-transformers' query, document, label.
- ``labeled-list`` (sentence-transformers): query, documents, labels.
- ``grouped`` (RAG-Retrieval): query, hits, each with content, and label or score.
- ``columns`` (sentence-transformers): anchor or query, positive, negative, negative_1, ...; MTEB's lists too.
- ``sentence-pair`` (sentence-transformers): sentence1, sentence2, and label or score, both human ratings.
- ``messages`` (ms-swift): messages, positive_messages, negative_messages.
- ``response`` (ms-swift): query, response, rejected_response.
- ``text`` (RAG-Retrieval's distillation of embeddings): query and nothing else. The text is the query and the
  document of its row, without labels, so that it learns a teacher's vector on both sides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from rerank_core.errors import one_of, short
from rerank_core.records import row_converters as convert
from rerank_core.records.fields import Record, RowError, key_of_object_list, present_key, text
from rerank_core.records.ms_swift import messages_row
from rerank_core.records.row_converters import DOCUMENT_KEYS, DOCUMENTS_KEYS, NUMBERED_NEGATIVE, QUERY_KEYS, ScoresAre
from rerank_core.records.training_row import TrainingRow

__all__ = ["FORMATS", "KEYS", "format_of", "keys_of_format", "query_key", "to_training_row", "unread_keys"]

_INSTRUCTION = ("instruction", "prompt", "prompt_for_query")
_ALWAYS = frozenset({*_INSTRUCTION, "source", "id", "prompts"})
_TEXT = "text"
_POINTWISE = frozenset({"pointwise", "sentence-pair"})


@dataclass(frozen=True)
class _Format:
    """A format: a row has one key of each group in ``needs``, and may have the keys in ``reads``."""

    needs: tuple[frozenset[str], ...]
    reads: frozenset[str]
    convert: Callable[[Record, ScoresAre], TrainingRow]

    def fits(self, keys: frozenset[str]) -> bool:
        return all(keys & group for group in self.needs)

    def reads_key(self, key: str) -> bool:
        named = key in self.reads or key in _ALWAYS or any(key in group for group in self.needs)
        return named or ("negative" in self.reads and NUMBERED_NEGATIVE.fullmatch(key) is not None)


def to_training_row(
    record: Record, *, scores_are: ScoresAre = "teacher", source: str | None = None, row_id: str | None = None
) -> TrainingRow:
    """Convert a decoded object of any format to a row.

    >>> to_training_row({"query": "q", "pos": ["a"], "neg": ["b", "c"]}).labels
    (1.0, 0.0, 0.0)

    Args:
        scores_are: whether ``pos_scores`` and ``neg_scores`` are a teacher's scores (FlagEmbedding, and
            RAG-Retrieval's distillation) or graded labels (RAG-Retrieval). The keys are the same in both, and values
            of 0 and 1 occur in both, so the caller must say. A teacher's list without negatives gets no labels:
            ``pos`` then only holds the documents.
        source: source of a row whose record has none.
        row_id: id of a row whose record has none.

    Raises:
        RowError: the keys fit no format or several, or a value does not fit its format.
    """
    one_of(scores_are, ("teacher", "labels"), "scores_are")
    row = _match_format(record)[1].convert(record, scores_are)
    if not row.docs:
        raise RowError("it has no documents", "no-docs")
    key = present_key(record, *_INSTRUCTION)
    record_id, prompts = record.get("id"), record.get("prompts")
    return replace(
        row,
        prompts=row.prompts if prompts is None else convert.prompts_of(prompts, len(row.docs)),
        instruction=row.instruction if key is None else text(record[key], key) or None,
        source=source if record.get("source") is None else text(record["source"], "source"),
        id=row_id if record_id is None else text(str(record_id) if isinstance(record_id, int) else record_id, "id"),
    )


def format_of(record: Record) -> str:
    """The name of a record's format, such as ``pos-neg``.

    Raises:
        RowError: the keys fit no format, or several.
    """
    return _match_format(record)[0]


def query_key(record: Record, row: TrainingRow) -> tuple[str | None, ...] | None:
    """What the pointwise records of one query have in common: query, instruction, source, and whether they have labels
    and scores. None for a record that is a row of its own.

    Args:
        row: the row of the record.
    """
    if len(row.docs) != 1 or format_of(record) not in _POINTWISE:
        return None
    return row.query, row.instruction, row.source, f"{row.labels is not None} {row.scores is not None}"


def unread_keys(record: Record) -> list[str]:
    """Keys of the record that its format ignores, sorted; a misspelled ``pos_score`` is one of them.

    Raises:
        RowError: as `format_of`.
    """
    form = _match_format(record)[1]
    return sorted(key for key, value in record.items() if value is not None and not form.reads_key(key))


def keys_of_format(name: str) -> list[str]:
    """The keys that a format reads, sorted; ``negative`` also stands for ``negative_1``, ``negative_2`` ..."""
    form = FORMATS[name]
    return sorted(form.reads.union(_ALWAYS, *form.needs))


def _match_format(record: Record) -> tuple[str, _Format]:
    filled = frozenset(key for key, value in record.items() if value is not None)
    # Where only the keys with null values complete a format, its converter raises the more precise error.
    for keys in (filled, frozenset(record)):
        names = _matching_formats(keys)
        if len(names) == 1:
            return names[0], FORMATS[names[0]]
        if names:
            raise RowError(
                f"its keys {sorted(keys)} fit {' and '.join(names)}; keep those of one format", "ambiguous-format"
            )
    # Not matched by its keys alone: a row whose documents have a misspelled key or are null is no text.
    if frozenset(record) - _ALWAYS == {"query"}:
        return _TEXT, FORMATS[_TEXT]
    list_key = key_of_object_list(record)
    hint = "The formats are " + "; ".join(
        f"{name}: {_required_keys(form)}" for name, form in FORMATS.items() if name != _TEXT
    )
    if list_key is not None:
        hint = f"If the rows are in its {list_key!r}, take them out: jq '.[\"{list_key}\"]' FILE > rows.json"
    raise RowError(f"its keys {short(sorted(record))} fit no format. {hint}", "unknown-format")


@lru_cache(maxsize=256)
def _matching_formats(keys: frozenset[str]) -> tuple[str, ...]:
    """Names of the formats that a set of keys fits; cached, because the records of a file have few different sets."""
    return tuple(name for name, form in FORMATS.items() if name != _TEXT and form.fits(keys))


def _required_keys(form: _Format) -> str:
    ordered = (sorted(group, key=lambda key: (key not in ("query", "content"), key)) for group in form.needs)
    return " + ".join("|".join(group) for group in ordered)


def _format(*needs: str, reads: str = "", convert: Callable[[Record, ScoresAre], TrainingRow]) -> _Format:
    return _Format(tuple(frozenset(group.split("|")) for group in needs), frozenset(reads.split()), convert)


_ANY_QUERY = "|".join(QUERY_KEYS)
_ANY_RATING = "label|labels|score|scores"

FORMATS = {
    "canonical": _format("query", "docs", reads="labels scores", convert=convert.canonical),
    "pos-neg": _format("query", "pos", reads="neg pos_scores neg_scores scores", convert=convert.pos_neg),
    "pointwise": _format(_ANY_QUERY, "|".join(DOCUMENT_KEYS), _ANY_RATING, convert=convert.pointwise),
    "labeled-list": _format(_ANY_QUERY, "|".join(DOCUMENTS_KEYS), _ANY_RATING, convert=convert.labeled_list),
    "grouped": _format("query", "hits", convert=convert.grouped),
    "columns": _format(_ANY_QUERY, "positive", reads="negative label labels score scores", convert=convert.columns),
    "sentence-pair": _format("sentence1", "sentence2", "label|score", convert=convert.sentence_pair),
    "messages": _format(
        "messages", "positive_messages", reads="negative_messages", convert=lambda r, _: messages_row(r)
    ),
    "response": _format("query", "response", "rejected_response", reads="system", convert=convert.response),
    _TEXT: _format("query", convert=convert.text_alone),
}

# Every key that some format reads, except negative_1, negative_2 ...
KEYS = _ALWAYS.union(*(form.reads.union(*form.needs) for form in FORMATS.values()))
