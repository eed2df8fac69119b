"""TREC DL 2019 passage ranking: the top 100 of a retriever with the NIST judgements, in the order of the file.

pyserini publishes nDCG@10 of these orders, which checks the metric.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ir_measures import read_trec_qrels

__all__ = ["PUBLISHED", "JudgedQuery", "judged_queries"]

PUBLISHED = {"bm25": 0.5058, "splade_pp_ed": 0.7308}
"""nDCG@10 of each retriever's order, from pyserini's msmarco-v1-passage.yaml."""


@dataclass(frozen=True)
class JudgedQuery:
    """A query, the passages that a retriever found, best first, and their grades from 0 to 3.

    Attributes:
        grades: of each passage; 0 also where it was not judged.
        others: grades of judged passages that are not among them.
    """

    id: str
    query: str
    passages: tuple[str, ...]
    grades: tuple[int, ...]
    others: tuple[int, ...]


def judged_queries(data: Path, retriever: str = "bm25") -> list[JudgedQuery]:
    """The 43 judged queries with the top 100 of ``bm25`` or ``splade_pp_ed``."""
    folder = data / "en_trecdl"
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    for judgement in read_trec_qrels(str(folder / "qrels.dl19-passage.txt")):
        grades[judgement.query_id][judgement.doc_id] = judgement.relevance
    queries = []
    file = folder / retriever / "dl19.retrieve_results_top100.json"
    for entry in json.loads(file.read_text(encoding="utf-8")):
        if not (hits := entry["hits"]):
            continue
        found = {str(hit["docid"]): hit["content"] for hit in hits}
        known = grades[str(hits[0]["qid"])]
        queries.append(
            JudgedQuery(
                id=str(hits[0]["qid"]),
                query=entry["query"],
                passages=tuple(found.values()),
                grades=tuple(known.get(doc, 0) for doc in found),
                others=tuple(grade for doc, grade in known.items() if doc not in found),
            )
        )
    return queries
