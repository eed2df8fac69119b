"""A line of tab-separated values as the object that JSONL would have."""

from __future__ import annotations

from dataclasses import dataclass

from rerank_core.errors import short
from rerank_core.records.fields import Record, RowError

__all__ = ["Columns"]

_NAMES = frozenset(
    {"query", "anchor", "question", "content", "document", "passage", "answer", "response", "doc", "text"}
)
_NUMBERS = frozenset({"label", "score"})
_OTHERS = frozenset({"positive", "negative", "sentence1", "sentence2", "instruction", "source", "id"})


@dataclass(frozen=True)
class Columns:
    """What the columns hold: names from a header, or else ``query, document, label`` (RAG-Retrieval) or ``query, title,
    text, label`` (RocketQA; title and text become one document, with a space between).

    Quotes have no meaning in these files, and a field holds neither tabs nor line breaks.
    """

    names: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the file has a header."""
        return bool(self.names)

    @classmethod
    def of(cls, first: bytes) -> Columns:
        """From the first line, which is a header if it holds nothing but names that rows know."""
        fields = tuple(first.decode("utf-8", "replace").rstrip("\r\n").split("\t"))
        return cls(fields) if len(fields) > 1 and set(fields) <= _NAMES | _NUMBERS | _OTHERS else cls()

    def record(self, line: str) -> Record:
        """One line.

        Raises:
            RowError: another number of columns than expected.
        """
        fields = line.rstrip("\r\n").split("\t")
        if self.names:
            if len(fields) != len(self.names):
                raise RowError(f"it has {len(fields)} columns, and the header {len(self.names)}", "tsv-columns")
            return {name: _value(name, field) for name, field in zip(self.names, fields, strict=True)}
        if len(fields) not in (3, 4):
            raise RowError(
                f"{short(line)} has {len(fields)} columns; it must have 3 (query, document, label) or 4 (query, title, "
                "text, label), or the file a header that names them",
                "tsv-columns",
            )
        doc = " ".join(field for field in fields[1:-1] if field)
        return {"query": fields[0], "content": doc, "label": _value("label", fields[-1])}


def _value(name: str, field: str) -> object:
    if name not in _NUMBERS:
        return field
    try:
        return float(field)
    except ValueError:
        # Reading the row says what is wrong with it.
        return field
