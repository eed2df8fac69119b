"""Which tokens of the query matched which of a document: what a late-interaction score is the sum of."""

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
        scorer: one that `Explains`.
    """
    assert isinstance(scorer, Scorer)
    assert isinstance(scorer, Explains)
    assert isinstance(scorer, Indexable)
    if not hits:
        return ()
    plan = RowPlan(scorer, [Job(job.query, [hit.document for hit in hits])], rules, deduplicate=False)
    windows = [[window for window in plan.windows if window.doc == place] for place in range(len(hits))]
    if isinstance(job.documents, Index):
        kept = IndexPlan(scorer, job, job.documents, rules)
        for hit, own in zip(hits, windows, strict=True):
            if kept.spans(hit.index) != [(window.start, window.stop) for window in own]:
                raise IndexStoreError(
                    f"the index holds other passages of document {hit.index} than its text makes "
                    f"({short(kept.spans(hit.index))} tokens); make the index again"
                )
    best = [own[_best(hit)] for own, hit in zip(windows, hits, strict=True)]
    rows = [plan.row(window) for window in best]
    embeddings: list[Any]
    if isinstance(job.documents, Index):
        embeddings = [kept.embedding(replace(window, doc=hit.index)) for window, hit in zip(best, hits, strict=True)]
    else:
        embeddings = [scorer.encode([row])[0] for row in rows]
    query = plan.query_rows[0]
    asked = plan.query_tokens(0)
    made = []
    for hit, window, row, embedding in zip(hits, best, rows, embeddings, strict=True):
        read = plan.tokens(window)
        matches = tuple(
            Match(
                query=_chars(asked, here - query.span[0]),
                document=_chars(read, window.start + there - row.span[0], window.start, window.stop),
                weight=weight,
                query_token=scorer.token_text(query.ids[here]),
                document_token=scorer.token_text(row.ids[there]),
            )
            for here, there, weight in scorer.explain(query, row, embedding)
        )
        made.append(replace(hit, matches=matches))
    return tuple(made)


def _best(hit: Hit) -> int:
    return max(range(len(hit.passages)), key=lambda number: (hit.passages[number].score, -number))


def _chars(tokens: Tokens, place: int, start: int = 0, stop: int | None = None) -> tuple[int, int] | None:
    """The characters of a token of the caller's text; None for one that the template or the tokenizer brought."""
    if not start <= place < (len(tokens) if stop is None else stop):
        return None
    return tokens.starts[place], tokens.stops[place]
