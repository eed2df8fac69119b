"""`usable`: a set whose labels came later, without the queries that no order improves."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace

from rerank_core import InputError
from rerank_eval.sets.cleaning import count_candidates, fault_of
from rerank_eval.sets.judged_set import JudgedQuery, JudgedSet, SetFacts

__all__ = ["usable"]

# Counts that depend on the labels; they are made anew.
_BY_LABELS = ("missed", "blank_documents", "unjudged")


def usable(judged: JudgedSet) -> JudgedSet:
    """The set without queries that have no judgement, no positive or no negative, which its facts count.

    Raises:
        InputError: no query is left.
    """
    known = asdict(judged.facts)
    unread = known.pop("unread_keys")
    counts = Counter[str]({name: count for name, count in known.items() if name not in _BY_LABELS})
    kept: list[JudgedQuery] = []
    for query in judged.queries:
        fault = fault_of(query, retrieved=judged.order == "first-stage")
        if fault is None:
            kept.append(query)
        else:
            counts[fault] += 1
    count_candidates(kept, counts)
    facts = SetFacts(**counts, unread_keys=unread)
    if not kept:
        raise InputError(f"data {judged.name!r} has no usable query: {'; '.join(facts.notes())}; give more labels")
    return replace(judged, queries=tuple(kept), facts=facts)
