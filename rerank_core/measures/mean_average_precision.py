"""The two definitions of mean average precision (MAP) in C-MTEB's reranking tasks, for one query each.

``map`` is that of mteb 1.x, with which the published tables were made: scikit-learn's average precision, in which
documents with equal scores are one block. ``map_at_1000`` is that of mteb 2.x: trec_eval's ``map_cut.1000``, which
compares scores in float32 and breaks ties by document id, descending; mteb names documents ``apositive_...`` and
``negative_...``, so that of equal scores negatives come first. They differ where scores are equal: of 2 relevant and 3
other documents with one score, ``map`` is 0.4 and ``map_at_1000`` 0.325.
"""

from __future__ import annotations

from collections.abc import Sequence

from rerank_core.measures.libraries import needed_for

__all__ = ["CUTOFF", "MAP", "MAP_AT_1000", "average_precision", "worst_average_precision"]

MAP = "map"
MAP_AT_1000 = "map_at_1000"
CUTOFF = 1000


def average_precision(scores: Sequence[float], relevant: Sequence[bool]) -> float:
    """``map`` of one query, over documents of which one or more are relevant.

    >>> average_precision([0.0] * 5, [True, True, False, False, False])
    0.4
    """
    with needed_for("metrics"):
        import numpy as np

    # Not through scikit-learn, whose checks of its arguments take 50 times as long for a query of 20 documents.
    values, is_relevant = np.asarray(scores, dtype=np.float64), np.asarray(relevant, dtype=bool)
    order = np.argsort(-values, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))  # the last document of each block
    found = np.cumsum(is_relevant[order])[ends]
    return float((np.diff(found, prepend=0) * found / (ends + 1)).sum() / found[-1])


def worst_average_precision(scores: Sequence[float], relevant: Sequence[bool], total: int | None = None) -> float:
    """``map_at_1000`` of one query, over documents of which one or more are relevant.

    Args:
        total: number of relevant documents, if some are not among these; they count as not found.

    >>> round(worst_average_precision([0.0] * 5, [True, True, False, False, False]), 3)
    0.325
    """
    with needed_for("metrics"):
        import numpy as np

    is_relevant = np.asarray(relevant, dtype=bool)
    order = np.lexsort((is_relevant, -np.asarray(scores, dtype=np.float32)))[:CUTOFF]
    ranks = np.flatnonzero(is_relevant[order]) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).sum() / (is_relevant.sum() if total is None else total))
