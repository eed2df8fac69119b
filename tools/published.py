"""Scores that the authors of models and other libraries published, as data for `verify_model.py` and the golden tests.

They are in ``published_scores.json`` beside this file and in ``golden/`` of the folder that RERANK_DATA names, by the
models' ids on the hub.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rerank_core

__all__ = ["Published", "largest_difference", "published"]

_HERE = Path(__file__).with_name("published_scores.json")
# Conversions of a model, with its scores.
_COPIES = {
    "Xenova/ms-marco-MiniLM-L-6-v2": "cross-encoder/ms-marco-MiniLM-L6-v2",
    "Xenova/ms-marco-MiniLM-L-12-v2": "cross-encoder/ms-marco-MiniLM-L12-v2",
}
# Options of `load` under which a framework computed its scores, by the model and the beginning of the note. The two
# notes of the layerwise model name each other's layers: FlagEmbedding's own scores at layer 28 are those of the first.
_OPTIONS: dict[tuple[str, str], Mapping[str, Any] | None] = {
    ("BAAI/bge-reranker-v2-minicpm-layerwise", "layer 28"): {"layer": 28},
    ("BAAI/bge-reranker-v2-minicpm-layerwise", "cutoff_layers not set"): {"layer": 28},
    ("BAAI/bge-reranker-v2-minicpm-layerwise", "cutoff_layers=[28]; "): {"layer": 40},
    ("BAAI/bge-reranker-v2-minicpm-layerwise", "cutoff_layers=[28]"): None,  # on a scale of its own: not verified
    ("BAAI/bge-reranker-v2.5-gemma2-lightweight", "cutoff_layers=[28]"): {"compat": "flagembedding"},
}
_TOLERANCE = 1e-3
"""Of entries without one: about 1e-4 of the largest logits."""
_M3_TOLERANCE = 5e-3
"""Of BGE-M3, whose authors computed in float16."""


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
    options: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)


def published(data: Path | None) -> list[Published]:
    """The published scores of the installed models.

    Args:
        data: the folder that RERANK_DATA names.
    """
    files = [_HERE, *([data / "golden" / _HERE.name] if data is not None else ())]
    return [entry for file in files for entry in _read(file)]


def _read(file: Path) -> list[Published]:
    found = json.loads(file.read_text(encoding="utf-8"))
    names = {name: spec.name for spec in rerank_core.models() for name in spec.names}
    known = []
    for entry in found["rerankers"]:
        model = names.get(_COPIES.get(entry["model"], entry["model"]))
        options = _options(entry)
        # An entry without documents scores a single text, which no reranker does.
        if model is None or options is None or any(doc is None for _, doc in entry["pairs"]):
            continue
        known.append(
            Published(
                model=model,
                source=entry["source"],
                pairs=[(query, doc) for query, doc in entry["pairs"]],
                scores=entry["scores"],
                probability="sigmoid" in entry["score_space"],
                tolerance=entry["tolerance"] or _TOLERANCE,
                options=options,
            )
        )
    for entry in found.get("embedders", ()):
        if entry["model"] == "BAAI/bge-m3" and entry["model"] in names:
            known.extend(_bge_m3(entry, names[entry["model"]]))
    return known


def largest_difference(entry: Published, raw: Sequence[float]) -> float:
    """The largest difference between published scores and the raw scores of the same pairs."""
    scores = [1 / (1 + math.exp(-score)) for score in raw] if entry.probability else raw
    return max(abs(ours - theirs) for ours, theirs in zip(scores, entry.scores, strict=True))


def _options(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The options of an entry; None for scores that are not verified."""
    for (model, note), options in _OPTIONS.items():
        if entry["model"] == model and entry["note"].startswith(note):
            return options
    return {}


def _bge_m3(entry: Mapping[str, Any], name: str) -> list[Published]:
    """BGE-M3's scores: late interaction, dense, sparse, and the three together."""
    dense, sparse, colbert = entry["weights"]
    options = {
        "max_length": entry["max_passage_length"], "longdoc": "firstp",
        "dense_weight": dense, "sparse_weight": sparse, "colbert_weight": colbert,
    }  # fmt: skip
    pairs = [(query, doc) for query in entry["sentences_1"] for doc in entry["sentences_2"]]
    kinds = {"colbert": "colbert", "dense": "dense", "sparse": "sparse", "fused": "colbert_sparse_dense"}
    return [
        Published(name, entry["source"], pairs, entry[key], False, _M3_TOLERANCE, options, {"score": kind})
        for kind, key in kinds.items()
    ]
