"""Whether sentence-transformers lays out query and document as rerank-core does, each in a row of its own."""

from __future__ import annotations

from typing import Any

from rerank_core import ModelSpec
from rerank_trainers.publish.other_libraries.plain import spells_specials
from rerank_trainers.publish.other_libraries.template_text import written
from rerank_trainers.publish.probes import Pair

__all__ = ["cut_note", "fits_separately"]


def cut_note(spec: ModelSpec) -> str:
    """How sentence-transformers reads texts otherwise."""
    return f"It reads a text up to {spec.max_length} tokens, not in windows, and parses special tokens in it."


def fits_separately(tokenizer: Any, spec: ModelSpec, pair: Pair, *, most: int | None = None) -> bool:
    """Whether no text is cut and none spells a special token or a marker.

    Args:
        most: the longest row of a query, if it is not ``max_length``.
    """
    markers = (spec.template.query_marker, spec.template.doc_marker)
    if spells_specials(tokenizer, pair, markers):
        return False
    limits = (min(most or spec.max_length, spec.max_length), spec.max_length)
    lengths = [
        len(tokenizer(text)["input_ids"]) + bool(marker)
        for text, marker in zip(written(spec, pair), markers, strict=True)
    ]
    query_length = len(tokenizer(pair[0], add_special_tokens=False)["input_ids"])
    return all(length <= limit for length, limit in zip(lengths, limits, strict=True)) and query_length <= (
        spec.max_query_length or query_length
    )
