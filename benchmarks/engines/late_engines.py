"""Late interaction, each library in its environment: run as ``late_engines.py NAME DIRECTORY``; worker.py
defines requests and answers.

An answer has the seconds of the first query, which encodes the documents, and of a later query over the same documents.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from engines.worker import serve

Query = Callable[[str], list[float]]
Start = Callable[[list[str]], Query]
"""Encodes documents and returns the function that scores them for a query."""


def ours(directory: str) -> Start:
    import rerank_core

    model = rerank_core.load(directory, device="cpu", longdoc="firstp", max_query_length=29)

    def start(docs: list[str]) -> Query:
        index = model.index(docs)
        return lambda query: model.rerank(query, index).scores()

    return start


def pylate(directory: str) -> Start:
    from pylate import models, rank

    model = models.ColBERT(directory, device="cpu")

    def start(docs: list[str]) -> Query:
        encoded = model.encode(docs, is_query=False, show_progress_bar=False)

        def score(query: str) -> list[float]:
            vectors = model.encode([query], is_query=True, show_progress_bar=False)
            (ranked,) = rank.rerank([list(range(len(docs)))], vectors, [encoded])
            return [hit["score"] for hit in sorted(ranked, key=lambda hit: hit["id"])]

        return score

    return start


def sentence_transformers(directory: str) -> Start:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(directory, device="cpu")

    def start(docs: list[str]) -> Query:
        encoded = model.encode_document(docs, show_progress_bar=False)
        return lambda query: model.similarity(model.encode_query([query], show_progress_bar=False), encoded)[0].tolist()

    return start


def cross_encoder(directory: str) -> Start:
    """Our cross-encoder of the same shape, which reads every document again for every query."""
    import rerank_core

    model = rerank_core.load(directory, device="cpu", longdoc="firstp", max_length=180)
    return lambda docs: lambda query: model.rerank(query, docs).scores()


ENGINES = {
    "ours": ours, "pylate": pylate, "sentence-transformers": sentence_transformers, "cross-encoder": cross_encoder,
}  # fmt: skip


def main(name: str, directory: str) -> None:
    """Serve one of ``ENGINES``: ``first`` and ``later`` are seconds, ``later`` the median."""

    def load() -> Callable[[Any, bool], dict[str, Any]]:
        start = ENGINES[name](directory)

        def measure(work: Any, warm_up: bool) -> dict[str, Any]:
            docs, queries = work["docs"], work["queries"]
            if warm_up:
                docs, queries = docs[:40], queries[:2]
            began = time.perf_counter()
            score = start(docs)
            scores = [score(queries[0])]
            first = time.perf_counter() - began
            later = []
            for query in queries[1:]:
                began = time.perf_counter()
                scores.append(score(query))
                later.append(time.perf_counter() - began)
            return {"first": first, "later": sorted(later)[len(later) // 2], "scores": scores}

        return measure

    serve(load)


if __name__ == "__main__":
    main(*sys.argv[1:])
