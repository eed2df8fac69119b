"""Options for reading files of documents: the format, and the keys of text and id."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["DocumentFields", "DocumentFormat"]


class DocumentFormat(str, Enum):
    """How a file is split into documents; ``auto`` decides by name and content."""

    auto = "auto"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    parquet = "parquet"
    lines = "lines"
    text = "text"


@dataclass(frozen=True)
class DocumentFields:
    """Keys of a JSON object, or columns of a table, that hold the text and the id of a document."""

    text: str = "text"
    id: str = "id"
