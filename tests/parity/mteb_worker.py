"""Runs in an environment with mteb 1.x or 2.x: one line of JSON in, one out.

Input: ``queries``, each ``{"positive": [score, ...], "negative": [score, ...]}``. Output: ``mean`` of the average
precisions, and of mteb 2.x ``values``, of the queries that it keeps, in order.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from typing import Any


def first(queries: list[dict[str, list[float]]]) -> dict[str, Any]:
    """mteb 1.x: its evaluator, with scores written as texts and read as embeddings of one number."""
    import torch
    from mteb.evaluation.evaluators.RerankingEvaluator import RerankingEvaluator

    class Reader:
        def encode(self, texts: list[str], **options: Any) -> list[list[float]]:
            return [[float(text or 0)] for text in texts]

    def score_of(query: Any, docs: Any) -> Any:
        return torch.tensor(docs, dtype=torch.float64)[:, 0][None]

    samples = [{"query": "", **{side: list(map(repr, scores)) for side, scores in one.items()}} for one in queries]
    return {"mean": float(RerankingEvaluator(samples, similarity_fct=score_of)(Reader())["map"])}


def second(queries: list[dict[str, list[float]]]) -> dict[str, Any]:
    """mteb 2.x: a reranking task's conversion of the data, then its metrics of the scores by document id."""
    import mteb
    from datasets import Dataset
    from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
    from mteb.abstasks.text.reranking import OLD_FORMAT_RERANKING_TASKS, AbsTaskReranking

    (published,) = mteb.get_tasks(tasks=["T2Reranking"])

    class Task(AbsTaskReranking):
        metadata = published.metadata

    task = Task()
    OLD_FORMAT_RERANKING_TASKS.append(task.metadata.name)  # of tasks with queries, positives and negatives
    columns = {side: [list(map(repr, one[side])) for one in queries] for side in ("positive", "negative")}
    data = Dataset.from_dict({"query": [str(at) for at in range(len(queries))], **columns})
    subset = task.hf_subsets[0]
    task.transform_old_dataset_format({subset: {"test": data}})
    split = task.dataset[subset]["test"]
    score = {row["id"]: float(row["text"]) for row in split["corpus"]}
    results = {query: {doc: score[doc] for doc in docs} for query, docs in split["top_ranked"].items()}
    found = calculate_retrieval_scores(results, split["relevant_docs"], [1, 10, 1000])
    values = [found.all_scores[query]["map_cut_1000"] for query in split["relevant_docs"]]
    return {"mean": found.map["MAP@1000"], "values": values}


def main() -> None:
    evaluate = first if version("mteb").startswith("1.") else second
    for line in sys.stdin:
        print(json.dumps(evaluate(json.loads(line)["queries"])), flush=True)


if __name__ == "__main__":
    main()
