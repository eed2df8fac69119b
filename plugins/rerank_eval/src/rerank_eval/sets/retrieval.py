"""Candidates of queries from a first stage: a run, or BM25 over the documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from rerank_core import InputError
from rerank_eval.sets.judged_set import Candidate, JudgedQuery
from rerank_eval.sets.texts import Documents
from rerank_eval.sets.trec import Run

__all__ = ["from_bm25", "from_run"]

# Documents that are searched beyond the wanted ones, in place of copies of the query.
_MORE = 50


def from_run(
    queries: Sequence[JudgedQuery], run: Run, documents: Documents, top: int | None, counts: Counter[str]
) -> list[JudgedQuery]:
    """Queries with the documents of a run as candidates.

    Args:
        queries: without candidates; their gains are in ``others``.
        top: most candidates of a query; by default all of the run.

    Raises:
        InputError: a document of the run has no text.
    """
    missing = {key for query in queries for key, _ in run.get(query.id, ()) if key not in documents.texts}
    if missing:
        raise InputError(
            f"{len(missing):,} documents of the run have no text in docs, the first is {min(missing)!r}; give the "
            "collection that was searched"
        )
    return [_with(query, iter(run.get(query.id, ())), documents, top, counts) for query in queries]


def from_bm25(
    queries: Sequence[JudgedQuery], documents: Documents, top: int, counts: Counter[str]
) -> list[JudgedQuery]:
    """Queries with the best documents of BM25 as candidates; one without a common term is no candidate.

    Args:
        queries: without candidates; their gains are in ``others``.
        top: most candidates of a query.

    Raises:
        MissingDependencyError: bm25s is not installed.
    """
    from rerank_core.measures import BM25

    ids = list(documents.texts)
    search = BM25(list(documents.texts.values()))
    own: Counter[str] = Counter()
    found = [_with(query, _best(search.scores(query.text), ids, top), documents, top, own) for query in queries]
    # BM25 ranks the whole collection, so that a document below `top` is no loss to report.
    own.pop("below_top", None)
    counts.update(own)
    return found


def _best(scores: Any, ids: Sequence[str], top: int) -> Iterator[tuple[str, float]]:
    """The ``top`` best documents and a few more, in case some of them equal the query; equal scores by position."""
    import numpy as np

    size = min(len(scores), top + _MORE)
    threshold = np.partition(scores, len(scores) - size)[len(scores) - size]
    found = np.flatnonzero((scores >= threshold) & (scores > 0))
    order = found[np.argsort(-scores[found], kind="stable")]
    return ((ids[at], float(scores[at])) for at in order[: top + _MORE])


def _with(
    query: JudgedQuery,
    ranked: Iterator[tuple[str, float | None]],
    documents: Documents,
    top: int | None,
    counts: Counter[str],
) -> JudgedQuery:
    """A query with the first documents of a ranking as candidates, without those that equal its own text."""
    gains = dict(query.others)
    candidates: list[Candidate] = []
    texts: set[str] = set()
    for key, score in ranked:
        text = documents.texts[key]
        gain = gains.pop(key, None)
        if documents.is_copy(key, query.id, query.text):
            counts["own_text"] += 1
        elif len(candidates) == top:
            counts["below_top"] += 1
            gains.update({} if gain is None else {key: gain})
        else:
            counts["equal_texts"] += text in texts
            texts.add(text)
            candidates.append(Candidate(key, text, gain, score))
    return replace(query, candidates=tuple(candidates), others=gains)
