"""Traps in judged data: copies of the query, orders that give the labels away, queries that no order can improve."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rerank_eval.sets.judged_set import JudgedQuery

__all__ = ["count_candidates", "drawn", "fault_of", "shuffled", "without_own_text"]


def without_own_text(query: JudgedQuery, counts: Counter[str]) -> JudgedQuery:
    """The query without candidates that equal its own text, counted as ``own_text``."""
    own = query.text.strip()
    kept = tuple(one for one in query.candidates if one.text.strip() != own)
    counts["own_text"] += len(query.candidates) - len(kept)
    return replace(query, candidates=kept)


def shuffled(query: JudgedQuery, seed: int) -> JudgedQuery:
    """The query with its candidates in a random order, which depends on the seed and the query's text alone."""
    candidates = list(query.candidates)
    # As bytes, because a text may hold a lone surrogate.
    random.Random(f"{seed}\n{query.text}".encode("utf-8", "surrogatepass")).shuffle(candidates)
    return replace(query, candidates=tuple(candidates))


def fault_of(query: JudgedQuery, *, retrieved: bool) -> str | None:
    """The count of `SetFacts` under which a query is left out; None where it is kept.

    Args:
        retrieved: the candidates are those of a first stage. Then a query stays whose relevant documents are not among
            them, or whose candidates are all relevant, because published figures have such queries too.
    """
    gains = [one.gain for one in query.candidates]
    judged = [gain for gain in (*gains, *query.others.values()) if gain is not None]
    if not judged:
        return "not_judged"
    if not any(judged) or not (retrieved or any(gains)):
        return "without_positive"
    # Unjudged candidates count as not relevant.
    if not retrieved and len({gain or 0.0 for gain in gains}) == 1:
        return "without_negative"
    return None


def drawn(queries: Sequence[JudgedQuery], number: int | None, seed: int, counts: Counter[str]) -> list[JudgedQuery]:
    """A random sample, in the order of the set; a smaller sample with the same seed is a part of it."""
    if number is None or number >= len(queries):
        return list(queries)
    positions = list(range(len(queries)))
    random.Random(seed).shuffle(positions)
    counts["not_sampled"] += len(queries) - number
    return [queries[position] for position in sorted(positions[:number])]


def count_candidates(queries: Iterable[JudgedQuery], counts: Counter[str]) -> None:
    """Count blank and unjudged candidates, and queries without a relevant one."""
    for query in queries:
        counts["blank_documents"] += sum(not one.text.strip() for one in query.candidates)
        counts["unjudged"] += sum(one.gain is None for one in query.candidates)
        counts["missed"] += any(query.others.values()) and not any(one.gain for one in query.candidates)
