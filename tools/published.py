"""Scores that the authors of models and other libraries published, as data for `verify_model.py` and the golden tests.

They are in ``published_scores.json`` beside this file, by the models' ids on the hub, each with its source. More may be
in ``golden/published_scores.json`` of the folder that RERANK_DATA names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rerank_core

__all__ = ["Published", "files_of", "largest_difference", "published"]

_HERE = Path(__file__).with_name("published_scores.json")
# Conversions of a model, with its scores.
_COPIES = {
    "Xenova/ms-marco-MiniLM-L-6-v2": "cross-encoder/ms-marco-MiniLM-L6-v2",
    "Xenova/ms-marco-MiniLM-L-12-v2": "cross-encoder/ms-marco-MiniLM-L12-v2",
}


@dataclass(frozen=True)
class Published:
    """Published scores of some pairs.

    Attributes:
        model: registered name.
        source: the document that has them.
        pairs: queries and documents.
        scores: one per pair.
        probability: whether they are the sigmoid of the raw score.
        tolerance: largest difference that the precision of the publication explains.
        options: options of ``load``.
        call: options of ``score``.
    """

    model: str
    source: str
    pairs: Sequence[tuple[str, str]]
    scores: Sequence[float]
    probability: bool
    tolerance: float
    options: Mapping[str, Any]
    call: Mapping[str, Any]


def files_of(data: str | None) -> list[Path]:
    """The files with published scores: the one here, and that of the folder that RERANK_DATA names."""
    more = [Path(data) / "golden" / _HERE.name] if data else []
    return [_HERE, *(file for file in more if file.is_file())]


def published(files: Sequence[Path]) -> list[Published]:
    """The published scores of the installed models, each once."""
    names = {name: spec.name for spec in rerank_core.models() for name in spec.names}
    entries: dict[str, dict[str, Any]] = {}
    read = (json.loads(file.read_text(encoding="utf-8"))["rerankers"] for file in files)
    for entry in (entry for rows in read for entry in rows):  # the first of several with equal scores has their options
        entries.setdefault(json.dumps([entry["model"], entry["pairs"], entry["scores"], entry.get("call")]), entry)
    found = []
    for entry in entries.values():
        model = names.get(_COPIES.get(entry["model"], entry["model"]))
        if model is not None and entry.get("verified", True) and _of_pairs(entry):
            found.append(
                Published(
                    model=model,
                    source=entry["source"],
                    pairs=[(query, doc) for query, doc in entry["pairs"]],
                    scores=entry["scores"],
                    probability="sigmoid" in entry["score_space"],
                    tolerance=entry["tolerance"] or 1e-3,
                    options=entry.get("options", {}),
                    call=entry.get("call", {}),
                )
            )
    return found


def largest_difference(entry: Published, raw: Sequence[float]) -> float:
    """The largest difference between published scores and the raw scores of the same pairs."""
    scores = [1 / (1 + math.exp(-score)) for score in raw] if entry.probability else raw
    return max(abs(ours - theirs) for ours, theirs in zip(scores, entry.scores, strict=True))


def _of_pairs(entry: Mapping[str, Any]) -> bool:
    """Whether an entry has one score per query and document, not the scores of single texts or of several labels."""
    numbers = all(isinstance(score, float | int) for score in entry["scores"])
    return numbers and all(doc is not None for _, doc in entry["pairs"])
