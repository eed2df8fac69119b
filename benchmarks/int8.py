"""Compares ``dtype="int8"`` with float32 on real weights: differences of scores and order, nDCG@10, seconds.

    RERANK_DATA=... python benchmarks/int8.py [--queries 43] [--json]

`mini` over the BM25 top-100 of TREC DL 2019; the two dtypes take turns, query by query.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from parts.quality.dl19 import judged_queries
from parts.quality.ndcg import Judgements, ndcg10
from scipy.stats import kendalltau

import rerank_core

DTYPES = ("float32", "int8")


def measure(data: Path, model: str, queries: int) -> dict[str, Any]:
    """Metrics and timings of one model, as plain data."""
    rerankers = {dtype: rerank_core.load(model, device="cpu", dtype=dtype) for dtype in DTYPES}
    ratios, taus, drifts = [], [], []
    chosen = judged_queries(data)[:queries]
    scores: dict[str, list[list[float]]] = {dtype: [] for dtype in DTYPES}
    for one in chosen:
        seconds = {}
        for dtype, reranker in rerankers.items():
            started = time.perf_counter()
            ranking = reranker.rerank(one.query, one.passages)
            seconds[dtype] = time.perf_counter() - started
            scores[dtype].append(ranking.scores())
        ratios.append(seconds["float32"] / seconds["int8"])
        exact, approximate = (scores[dtype][-1] for dtype in DTYPES)
        taus.append(float(kendalltau(exact, approximate).statistic))
        drifts += [abs(a - b) for a, b in zip(exact, approximate, strict=True)]
    judgements = [Judgements(one.grades, one.others) for one in chosen]
    return {
        "model": model,
        "queries": len(chosen),
        "times_float32": round(median(ratios), 2),
        "kendall_tau": round(mean(taus), 4),
        "kendall_tau_least": round(min(taus), 4),
        "drift_mean": round(mean(drifts), 5),
        "drift_most": round(max(drifts), 5),
        "ndcg10": {dtype: round(mean(ndcg10(scores[dtype], judgements)), 4) for dtype in DTYPES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--queries", type=int, default=43)
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args()
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data")
    result = measure(Path(os.environ["RERANK_DATA"]), options.model, options.queries)
    print(json.dumps(result) if options.json else "\n".join(f"{name:18} {value}" for name, value in result.items()))


if __name__ == "__main__":
    main()
