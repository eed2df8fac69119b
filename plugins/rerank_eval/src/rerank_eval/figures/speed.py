"""Latency, throughput and cost of a run."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median, quantiles

from rerank_eval.figures.evaluation import Speed
from rerank_eval.runs.model_run import QueryRun

__all__ = ["speed_of"]


def speed_of(queries: Sequence[QueryRun], price_per_hour: float | None = None) -> Speed | None:
    """The speed over the queries whose call succeeded; None where none did.

    Args:
        price_per_hour: of the machine, in any currency. 1,000 queries cost what the machine costs in the time that
            they take one after another.
    """
    done = [query for query in queries if query.error is None]
    if not done:
        return None
    seconds = [query.seconds for query in done]
    total = sum(seconds)
    counted = [query.tokens for query in done if query.tokens is not None]
    return Speed(
        median_ms=median(seconds) * 1000,
        p95_ms=(quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]) * 1000,
        tokens_per_second=sum(counted) / total if len(counted) == len(done) and total else None,
        cost_per_1000=None if price_per_hour is None else price_per_hour / 3600 * fmean(seconds) * 1000,
    )
