"""`with_matches`: the token matches whose weights sum to a late-interaction score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rerank_core.errors import IndexStoreError, short
from rerank_core.index.index import Index, IndexPlan
from rerank_core.index.protocols import Explains, Indexable
from rerank_core.planning.row_plan import Job, RowPlan, Rules
from rerank_core.scorer import Scorer, Tokens
from rerank_core.types import Hit, Match

__all__ = ["with_matches"]


def with_matches(scorer: object, job: Job, hits: Sequence[Hit], rules: Rules) -> tuple[Hit, ...]:
    """The hits, each with the matches of its best passage. Documents that are not in an index are encoded again.

    Args:
        scorer: a scorer that implements `Explains`.

    Raises:
        IndexStoreError: the passages in the index differ from those of the document's text.
    """
    assert isinstance(scorer, Scorer)
    assert isinstance(scorer, Explains)
    assert isinstance(scorer, Indexable)
    if not hits:
        return ()
    plan = RowPlan(scorer, [Job(job.query, [hit.document for hit in hits])], rules, deduplicate=False)
    windows = [[window for window in plan.windows if window.doc == doc] for doc in range(len(hits))]
    if isinstance(job.documents, Index):
        indexed = IndexPlan(scorer, job, job.documents, rules)
        for hit, hit_windows in zip(hits, windows, strict=True):
            if indexed.spans(hit.index) != [(window.start, window.stop) for window in hit_windows]:
                raise IndexStoreError(
                    f"the index holds other passages of document {hit.index} than its text makes "
                    f"({short(indexed.spans(hit.index))} tokens); make the index again"
                )
    best = [hit_windows[_best_passage(hit)] for hit_windows, hit in zip(windows, hits, strict=True)]
    rows = [plan.row(window) for window in best]
    embeddings: list[Any]
    if isinstance(job.documents, Index):
        embeddings = [indexed.embedding(replace(window, doc=hit.index)) for window, hit in zip(best, hits, strict=True)]
    else:
        embeddings = [scorer.encode([row])[0] for row in rows]
    query = plan.query_rows[0]
    query_tokens = plan.query_tokens(0)
    explained = []
    for hit, window, row, embedding in zip(hits, best, rows, embeddings, strict=True):
        doc_tokens = plan.tokens(window)
        matches = tuple(
            Match(
                query=_chars(query_tokens, in_query - query.span[0]),
                document=_chars(doc_tokens, window.start + in_row - row.span[0], window.start, window.stop),
                weight=weight,
                query_token=scorer.token_text(query.ids[in_query]),
                document_token=scorer.token_text(row.ids[in_row]),
            )
            for in_query, in_row, weight in scorer.explain(query, row, embedding)
        )
        explained.append(replace(hit, matches=matches))
    return tuple(explained)


def _best_passage(hit: Hit) -> int:
    """The number of the passage with the highest score; the first of equal ones."""
    return max(range(len(hit.passages)), key=lambda number: (hit.passages[number].score, -number))


def _chars(tokens: Tokens, position: int, start: int = 0, stop: int | None = None) -> tuple[int, int] | None:
    """The characters of a token of the caller's text; None for a token of the template or a special token."""
    if not start <= position < (len(tokens) if stop is None else stop):
        return None
    return tokens.starts[position], tokens.stops[position]
