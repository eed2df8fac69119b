"""Reads queries and documents with ids: JSON Lines, JSON, tables and Parquet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rerank_core import InputError
from rerank_core.records import Record, RowError, expand_paths, read_records

__all__ = ["Documents", "read_documents", "read_queries"]

_IDS = ("id", "_id", "docid", "doc_id", "docno", "pid", "qid", "query_id", "query-id", "corpus-id")
_DOCUMENT_TEXTS = ("text", "contents", "content", "passage", "body", "document")
_QUERY_TEXTS = ("text", "query", "question", "title")
# MS MARCO's collections and topics have no header: id and text, or id, URL, title and text.
_QUERY_COLUMNS = {2: ("id", "text")}
_DOCUMENT_COLUMNS = {2: ("id", "text"), 4: ("id", "url", "title", "text")}


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a collection.

    Attributes:
        texts: by id; the text of a document with a title begins with the title.
        starts: where the text itself begins, of documents with a title.
    """

    texts: Mapping[str, str]
    starts: Mapping[str, int] = field(default_factory=dict)

    def is_copy(self, key: str, query_id: str, query: str) -> bool:
        """Whether a document is a query: it has an equal text, or the same id and an equal text after its title, as in
        BEIR's ArguAna."""
        text, query = self.texts[key].strip(), query.strip()
        return text == query or (key == query_id and self.texts[key][self.starts.get(key, 0) :].strip() == query)


def read_queries(path: Path, encoding: str | None = None) -> dict[str, str]:
    """The text of each query by its id.

    Raises:
        InputError: the file cannot be read, a record has no id or text, a text is blank, or an id has two texts.
    """
    queries: dict[str, str] = {}
    for where, key, text, _ in _texts([path], _QUERY_TEXTS, _QUERY_COLUMNS, encoding):
        if not text.strip():
            raise RowError(f"query {key!r} has a blank text", "blank-query", *where)
        _add(queries, key, text, where)
    return queries


def read_documents(named: str | Path, wanted: Collection[str] | None = None, encoding: str | None = None) -> Documents:
    """The documents of a file, or of the files of a pattern.

    Args:
        named: a file, or a pattern of files.
        wanted: ids of the documents that are kept in memory; by default all.
        encoding: of files that are not UTF-8.

    Raises:
        InputError: a file cannot be read, a record has no id or text, or an id has two texts.
    """
    documents: dict[str, str] = {}
    starts: dict[str, int] = {}
    for where, key, text, start in _texts(
        expand_paths([named]), _DOCUMENT_TEXTS, _DOCUMENT_COLUMNS, encoding, titles=True
    ):
        if wanted is None or key in wanted:
            _add(documents, key, text, where)
            if start:
                starts[key] = start
    return Documents(documents, starts)


def _texts(
    paths: Sequence[Path],
    keys: Sequence[str],
    without_header: Mapping[int, Sequence[str]],
    encoding: str | None,
    *,
    titles: bool = False,
) -> Iterator[tuple[tuple[str, int], str, str, int]]:
    """``((file, line), id, text, start)`` of each record; the start is that of the text behind its title."""
    columns = (*_IDS, *dict.fromkeys((*keys, "title")))
    for path in paths:
        for number, record in read_records(path, columns, without_header=without_header, encoding=encoding):
            where = (str(path), number)
            key, text = _value(record, _IDS, where), _value(record, keys, where)
            if not isinstance(key, (str, int)) or isinstance(key, bool):
                raise RowError(f"the id is {key!r:.80}; it must be a string or an integer", "bad-id", *where)
            title = record.get("title") if titles else None
            if not isinstance(text, str) or not isinstance(title, (str, type(None))):
                raise RowError(f"the text of {key!r} is {text!r:.80}; it must be a string", "not-a-string", *where)
            yield where, str(key), f"{title} {text}" if title else text, len(title) + 1 if title else 0


def _value(record: Record, keys: Sequence[str], where: tuple[str, int]) -> object:
    key = next((key for key in keys if record.get(key) is not None), None)
    if key is None:
        raise RowError(f"it has none of {', '.join(keys)}; it has {sorted(record)!r:.200}", "missing-key", *where)
    return record[key]


def _add(texts: dict[str, str], key: str, text: str, where: tuple[str, int]) -> None:
    if texts.setdefault(key, text) != text:
        raise InputError(f"{where[0]}:{where[1]}: the id {key!r} has two different texts; give each text its own id")
