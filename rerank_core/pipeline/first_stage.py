"""The first stage's scores of a request: given beside the documents, or in their metadata."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from rerank_core.combine import Combine, finite_number
from rerank_core.errors import InputError, short
from rerank_core.types import Document, in_order

__all__ = ["first_stage_of"]


def first_stage_of(
    documents: Sequence[Document], given: Iterable[Any] | None, combine: Combine | None, of: str = ""
) -> tuple[float | None, ...] | None:
    """The retriever's scores as they were given, one per document; None where a document has none, and where the call
    has no ``combine``.

    Args:
        given: the caller's ``first_stage=``, which takes precedence over the metadata.
        of: the owner of the documents in a message, such as " of query 3".

    Raises:
        InputError: a score is missing or no finite number, there are not as many scores as documents, or scores are
            given without ``combine``.
    """
    if combine is None:
        if given is not None:
            raise InputError(
                f"first_stage{of} is given without combine, so it has no effect; add combine=Combine.rrf() or "
                "combine=Combine.weighted(), or leave first_stage out"
            )
        return None
    if given is None:
        keys = [document.metadata if isinstance(document.metadata, Mapping) else {} for document in documents]
        values = [metadata.get(combine.field) for metadata in keys]
        place = f"{combine.field!r} in the metadata"
    else:
        items = in_order(given, f"first_stage{of}", "a list of one number per document")
        values = list(islice(items, len(documents) + 1))  # it may be an endless iterator
        place = "first_stage"
        if len(values) != len(documents):
            count = f"{len(values)} scores" if len(values) < len(documents) else "more scores"
            raise InputError(
                f"first_stage{of} has {count}, and there are {len(documents)} documents; give one per document, None "
                "where there is none"
            )
    scores: list[float | None] = []
    for index, value in enumerate(values):
        number = finite_number(value)
        if number is None and value is not None:
            raise InputError(
                f"document {index}{of} has {short(value)} ({type(value).__name__}) as {place}; a score of the first "
                "stage must be a finite number"
            )
        if number is None and combine.missing == "error":
            raise InputError(
                f"document {index}{of} has no {place}, so it has no score of the first stage; give it one, name its "
                "key with Combine's field=, or count such documents as the worst with missing='worst'"
            )
        scores.append(number)
    return tuple(scores)
