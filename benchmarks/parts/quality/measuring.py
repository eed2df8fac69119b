"""Metrics of a ranking of a dev set: means, and nDCG@10 of each query for paired comparisons."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import mean
from typing import Any

import rerank_core
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.evaluation.dev_set import DevSet
from rerank_trainers.mining import BM25

__all__ = ["bm25", "bm25_scores", "chance", "measured"]


def measured(rows: list[TrainingRow], reranker: rerank_core.Reranker) -> dict[str, Any]:
    """Means of the metrics, and nDCG@10 of each query."""
    result = DevSet(rows).evaluate(reranker)
    return {
        "means": {name: round(value, 4) for name, value in result.values.items()},
        "ndcg": [round(value, 4) for value in result.queries["nDCG@10"]],
    }


def bm25_scores(rows: Sequence[TrainingRow], corpus: Sequence[TrainingRow]) -> list[list[float]]:
    """BM25 of each row's documents, with the document frequencies of all documents of ``corpus``."""
    texts = list(dict.fromkeys(text for row in corpus for text in row.docs))
    index = {text: number for number, text in enumerate(texts)}
    search = BM25(texts)
    scored = ((row, search.scores(row.query)) for row in rows)
    return [[float(scores[index[text]]) for text in row.docs] for row, scores in scored]


def bm25(rows: list[TrainingRow]) -> dict[str, Any]:
    """The metrics of BM25 within each query's candidates, with the idf of all candidates."""
    dev = DevSet(rows)
    result = dev.metrics(bm25_scores(dev.rows, rows))
    return {
        "means": {name: round(value, 4) for name, value in result.values.items()},
        "ndcg": [round(value, 4) for value in result.queries["nDCG@10"]],
    }


def chance(rows: list[TrainingRow]) -> dict[str, Any]:
    """The metrics of random orders, averaged over ten."""
    dev = DevSet(rows)
    draw = random.Random(0)
    results = [dev.metrics([[draw.random() for _ in row.docs] for row in dev.rows]) for _ in range(10)]
    ndcg = zip(*(result.queries["nDCG@10"] for result in results), strict=True)
    return {
        "means": {name: round(mean(one.values[name] for one in results), 4) for name in results[0].values},
        "ndcg": [round(mean(values), 4) for values in ndcg],
    }
