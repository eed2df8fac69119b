"""`make_set`: the data of a task as a `JudgedSet`, equal to what mteb evaluates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rerank_core import InputError
from rerank_eval.sets.cleaning import count_candidates, drawn, fault_of, shuffled
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet, SetFacts

__all__ = ["make_set"]


def make_set(name: str, queries: Iterable[JudgedQuery], *, sample: int | None, seed: int) -> JudgedSet:
    """A set of the queries that mteb evaluates: those with a relevant and an irrelevant candidate.

    Nothing else is left out. A text that is twice among the candidates of a query counts twice, as in published
    figures.

    Args:
        sample: draw this many queries.
        seed: of the sample and of the order of candidates.

    Raises:
        InputError: no query is left.
    """
    counts: Counter[str] = Counter()
    kept: list[JudgedQuery] = []
    for query in queries:
        counts["read"] += 1
        fault = fault_of(query, retrieved=False)
        if fault is None:
            kept.append(query)
        else:
            counts[fault] += 1
    if not kept:
        raise InputError(f"{name} has no query with a relevant and an irrelevant candidate, of {counts['read']:,} read")
    kept = drawn(kept, sample, seed, counts)
    count_candidates(kept, counts)
    for query in kept:
        counts["equal_texts"] += len(query.candidates) - len({one.text for one in query.candidates})
    return JudgedSet(name, tuple(shuffled(query, seed) for query in kept), facts=SetFacts(**counts, unread_keys=()))
