"""Which pairs a judge grades: the best candidates of every model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from rerank_eval.runs.model_run import ModelRun
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["narrowed", "pooled"]


def pooled(judged: JudgedSet, runs: Sequence[ModelRun], *, depth: int, labelled: int, seed: int = 0) -> list[list[int]]:
    """``[queries]``: positions of the candidates that some model, or the first stage, ranks among its ``depth`` best.

    Args:
        runs: of any set; those of another set are passed over.
        labelled: candidates with a label outside the pool that are added, drawn at random, so that the judge can be
            compared with the labels.
    """
    pools: list[set[int]] = [set() for _ in judged.queries]
    for run in runs:
        if run.set_digest == judged.digest:
            # A run that was stopped has fewer queries.
            for pool, ranked in zip(pools, run.queries, strict=False):
                best = sorted((-score, at) for at, score in enumerate(ranked.scores))[:depth]
                pool.update(at for _, at in best)
    if judged.order == "first-stage":
        for pool, query in zip(pools, judged.queries, strict=True):
            pool.update(range(min(depth, len(query.candidates))))
    outside = [
        (number, at)
        for number, query in enumerate(judged.queries)
        for at, one in enumerate(query.candidates)
        if one.gain is not None and at not in pools[number]
    ]
    for number, at in random.Random(seed).sample(outside, min(labelled, len(outside))):
        pools[number].add(at)
    return [sorted(pool) for pool in pools]


def narrowed(runs: Sequence[ModelRun], before: JudgedSet, after: JudgedSet) -> list[ModelRun]:
    """The runs of a set with those of its queries that another version of the set has; other runs as they are."""
    kept = {query.id for query in after.queries}
    return [
        replace(run, set_digest=after.digest, queries=tuple(query for query in run.queries if query.id in kept))
        if run.set_digest == before.digest
        else run
        for run in runs
    ]
