"""Cuts of a score: which documents to keep, and how precise and how complete the kept ones are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core.errors import InputError
from rerank_core.measures.calibration_error import Scored, arrays
from rerank_core.measures.intervals import Interval
from rerank_core.measures.libraries import needed_for

__all__ = ["Threshold", "threshold"]

# Numbers drawn at once, to bound memory.
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Threshold:
    """A cut of the raw score: documents with this score or a higher one are kept.

    Attributes:
        precision: share of relevant documents among the kept ones of all queries together.
        recall: share of kept documents among the relevant ones.
        kept, documents: number of kept documents, and of all.
    """

    cut: float
    precision: Interval
    recall: Interval
    kept: int
    documents: int


def threshold(
    queries: Sequence[Scored],
    *,
    precision: float | None = None,
    recall: float | None = None,
    level: float = 0.95,
    draws: int = 2_000,
    seed: int = 0,
) -> Threshold:
    """The cut that reaches one target and is best by the other: with ``precision`` the one that keeps the most relevant
    documents, with ``recall`` the most precise one. Documents with equal scores are kept or dropped together.

    The intervals are those of this cut on other queries (bootstrap over queries). They do not contain the choice of the
    cut, which was made on these queries: on other queries the target may be missed by a little.

    Args:
        queries: the scored documents of each query.
        precision, recall: the target, above 0 and up to 1; one of the two.

    Raises:
        InputError: no target or two, a target out of range or that no cut reaches, no relevant document, fewer than two
            queries, or a score that is not finite.
        MissingDependencyError: the extra ``eval`` is not installed.
    """
    target = precision if recall is None else recall
    if target is None or (precision is not None and recall is not None) or not 0 < target <= 1:
        raise InputError(
            f"a threshold needs one target above 0 and up to 1, and got precision {precision!r} and recall {recall!r}"
        )
    with needed_for("thresholds"):
        import numpy as np

    if len(queries) < 2:
        raise InputError(f"a threshold needs two or more queries, and got {len(queries)}")
    scores, relevant = arrays([one for query in queries for one in query])
    if not relevant.any():
        raise InputError(f"none of the {len(scores)} documents is relevant, so no threshold finds any")
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    found = np.cumsum(relevant[order])[ends]
    precisions, recalls = found / (ends + 1), found / relevant.sum()
    if recall is None:
        reached = np.flatnonzero(precisions >= target)
        if not len(reached):
            raise InputError(
                f"no threshold has a precision of {target:g}; the best one has {precisions.max():.4g}. Aim lower"
            )
        # The largest recall, and of equal ones the highest cut.
        at = reached[np.argmax(recalls[reached])]
    else:
        at = np.flatnonzero(recalls >= target)[0]
        # The largest precision, and of equal ones the lowest cut.
        at = np.flatnonzero(precisions == precisions[at:].max())[-1]
    cut = float(scores[order[ends[at]]])
    counts = np.array(
        [
            (
                sum(grade > 0 for score, grade in query if score >= cut),
                sum(score >= cut for score, _ in query),
                sum(grade > 0 for _, grade in query),
            )
            for query in queries
        ],
        dtype=np.float64,
    )
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // len(queries))
    sums = np.concatenate(
        [
            random.multinomial(len(queries), [1 / len(queries)] * len(queries), min(block, draws - start)) @ counts
            for start in range(0, draws, block)
        ]
    )
    bounds = []
    for mean, below in ((precisions[at], sums[:, 1]), (recalls[at], sums[:, 2])):
        values = sums[below > 0, 0] / below[below > 0]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        bounds.append(Interval(float(mean), float(low), float(high), level))
    return Threshold(cut, bounds[0], bounds[1], int(ends[at]) + 1, len(scores))
