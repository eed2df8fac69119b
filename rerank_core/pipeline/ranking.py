"""From raw scores to a `Ranking`: sort, display, ``top_k``."""

from __future__ import annotations

from rerank_core.errors import InputError
from rerank_core.options import CallOptions
from rerank_core.pipeline.display import Display
from rerank_core.pipeline.outcomes import Scored
from rerank_core.planning.row_plan import Job
from rerank_core.types import Hit, Ranking

__all__ = ["ranking_of"]


def ranking_of(model: str, job: Job, scored: Scored, call: CallOptions, display: Display) -> Ranking:
    """Sort by (stage, raw score), equal scores in the caller's order; then apply ``min_score`` and ``top_k``."""
    if call.min_score is not None and any(scored.stages):
        raise InputError(
            f"min_score={call.min_score!r} cannot be applied after a cascade, whose stages differ in score scale; "
            "leave min_score out"
        )
    shown = [display.of(score) for score in scored.scores]
    order = sorted(range(len(shown)), key=lambda doc: (-scored.stages[doc], -scored.scores[doc], doc))
    kept = [doc for doc in order if call.min_score is None or shown[doc] >= call.min_score]
    hits = tuple(
        Hit(
            document=job.documents[doc],
            score=shown[doc],
            rank=rank,
            index=doc,
            passages=scored.passages[doc],
            truncated=scored.truncated[doc],
            scores=scored.all_scores[doc],
            stage=scored.stages[doc],
        )
        for rank, doc in enumerate(kept[: call.top_k], start=1)
    )
    return Ranking(
        query=job.query,
        hits=hits,
        model=model,
        score_space=display.space,
        activation=display.activation,
        usage=scored.usage,
        query_truncated=scored.query_truncated,
        statistics=scored.statistics,
        _scores=tuple(shown),
    )
