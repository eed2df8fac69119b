"""Measures nDCG@10 of a reranker on the BM25 top-100 of TREC DL 2019 with the NIST judgements.

    RERANK_DATA=... python benchmarks/dl19.py --model mini

The order of the file (BM25) is measured as well: pyserini publishes 0.5058 for it, which checks the metric.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

import ir_measures
from ir_measures import ScoredDoc, nDCG

import rerank_core


def requests(data: Path) -> list[tuple[str, str, list[dict[str, str]]]]:
    """(query id, query, documents) of the 43 judged queries."""
    file = data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json"
    return [
        (str(hits[0]["qid"]), entry["query"], [{"id": hit["docid"], "text": hit["content"]} for hit in hits])
        for entry in json.loads(file.read_text(encoding="utf-8"))
        if (hits := entry["hits"])
    ]


def ndcg10(data: Path, run: list[ScoredDoc], queries: set[str] | None = None) -> float:
    """Mean over the judged queries (or over ``queries``) of trec_eval's ndcg_cut_10: linear gain, the ideal list over
    all judged documents."""
    qrels = list(ir_measures.read_trec_qrels(str(data / "en_trecdl" / "qrels.dl19-passage.txt")))
    if queries is not None:
        qrels = [qrel for qrel in qrels if qrel.query_id in queries]
    return float(ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10])


def measure(data: Path, model: str) -> dict[str, object]:
    """Metrics and seconds of one model, as plain data."""
    queries = requests(data)
    bm25 = [ScoredDoc(q, d["id"], float(-position)) for q, _, docs in queries for position, d in enumerate(docs)]
    reranker = rerank_core.load(model)
    started = time.perf_counter()
    rankings = reranker.rerank_many([(query, docs) for _, query, docs in queries], progress=True)
    seconds = time.perf_counter() - started
    run = [
        ScoredDoc(q, str(hit.document.id), hit.score)
        for (q, _, _), ranking in zip(queries, rankings, strict=True)
        for hit in ranking
    ]
    return {
        "model": model,
        "queries": len(queries),
        "documents": sum(len(docs) for _, _, docs in queries),
        "tokens": sum(ranking.usage.tokens or 0 for ranking in rankings),
        "ndcg@10": round(ndcg10(data, run), 4),
        "ndcg@10 of BM25 order": round(ndcg10(data, bm25), 4),
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    arguments = parser.parse_args()
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data")
    print(json.dumps(measure(Path(os.environ["RERANK_DATA"]), arguments.model), indent=2))
