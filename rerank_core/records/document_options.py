"""What a caller says of files of documents: how they are cut, and where text and id are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["DocumentFields", "DocumentFormat"]


class DocumentFormat(str, Enum):
    """How a file is cut into documents."""

    auto = "auto"
    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    parquet = "parquet"
    lines = "lines"
    text = "text"


@dataclass(frozen=True)
class DocumentFields:
    """Which keys of a JSON object, or columns of a table, hold the text and the id."""

    text: str = "text"
    id: str = "id"
