"""The rankers of benchmarks/quality.py: random orders, BM25, and late-interaction models by each of their scores."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import mean

import rerank_core
from parts.quality.measuring import bm25_scores
from parts.quality.ndcg import ndcg10
from parts.quality.sets import JudgedSet

__all__ = ["BASELINES", "MODELS", "SCORES", "baselines", "by_model", "ranker_name"]

BASELINES = ("random", "BM25")
MODELS = ("mini", "mini-multilingual")
SCORES = ("maxsim", "cosine", "both")
"""The values of the option ``score``; the first is the default."""


def ranker_name(model: str, score: str) -> str:
    """
    >>> ranker_name("mini", "maxsim"), ranker_name("mini", "cosine")
    ('mini', 'mini, cosine')
    """
    return model if score == SCORES[0] else f"{model}, {score}"


def baselines(judged: JudgedSet) -> dict[str, list[float]]:
    """nDCG@10 of each query, by ranker; for random orders the mean of ten."""
    draw = random.Random(0)
    draws = [ndcg10([[draw.random() for _ in row.docs] for row in judged.rows], judged.judgements) for _ in range(10)]
    return {
        "random": [mean(values) for values in zip(*draws, strict=True)],
        "BM25": ndcg10(bm25_scores(judged.rows, judged.rows), judged.judgements),
    }


def by_model(reranker: rerank_core.Reranker, judged: JudgedSet) -> dict[str, list[float]]:
    """nDCG@10 of each query, by value of ``score``. One pass gives all of them."""
    scores: dict[str, list[Sequence[float]]] = {name: [] for name in SCORES}
    documents = reranker.index(judged.rows[0].docs) if judged.shared else None
    requests = ((row.query, row.docs if documents is None else documents) for row in judged.rows)
    for ranking in reranker.rerank_stream(requests, score="both"):
        hits = sorted(ranking, key=lambda hit: hit.index)
        for name, own in scores.items():
            own.append([hit.scores[name] for hit in hits])
    return {name: ndcg10(own, judged.judgements) for name, own in scores.items()}
