"""Reads the texts of a corpus from files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rerank_core.records.document_options import DocumentFields, DocumentFormat
from rerank_core.records.documents import read_documents
from rerank_core.records.record_files import format_from_name

__all__ = ["corpus_texts"]


def corpus_texts(files: Sequence[str], *, text_field: str = "text", encoding: str | None = None) -> Iterator[str]:
    """The texts of corpus files in order; plain text is read as one text per line.

    Args:
        text_field: key or column of the text.

    Raises:
        InputError: a file cannot be read, or contains a line that is not a document.
    """
    for file in files:
        known = file == "-" or format_from_name(file)[0] is not None
        form = DocumentFormat.auto if known else DocumentFormat.lines
        for document in read_documents([file], form, DocumentFields(text_field), encoding):
            yield document.text
