"""Reads files and stdin: compression, encodings, JSON, tables and Parquet, into documents and training rows.

The names in ``__all__`` are public; the modules of this folder are not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank_core.records.document_options import DocumentFields, DocumentFormat
    from rerank_core.records.documents import read_documents
    from rerank_core.records.fields import Record, RowError
    from rerank_core.records.label_scale import LabelScale
    from rerank_core.records.paths import expand_paths
    from rerank_core.records.reading import read_lines, read_records, read_rows
    from rerank_core.records.row_formats import format_of, to_training_row, unread_keys
    from rerank_core.records.training_row import TrainingRow
else:  # imported when used, since `rerank rank` reads documents alone
    _NAMES = {
        "document_options": "DocumentFields DocumentFormat",
        "documents": "read_documents",
        "fields": "Record RowError",
        "label_scale": "LabelScale",
        "paths": "expand_paths",
        "reading": "read_lines read_records read_rows",
        "row_formats": "format_of to_training_row unread_keys",
        "training_row": "TrainingRow",
    }
    _HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


__all__ = [
    "DocumentFields",
    "DocumentFormat",
    "LabelScale",
    "Record",
    "RowError",
    "TrainingRow",
    "expand_paths",
    "format_of",
    "read_documents",
    "read_lines",
    "read_records",
    "read_rows",
    "to_training_row",
    "unread_keys",
]
