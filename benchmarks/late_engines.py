"""Late interaction in the environment of what is timed: ``late_engines.py NAME DIRECTORY`` loads once, then answers
JSON lines with the seconds of the first query, which encodes the documents, and of a later one over the same."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
warnings.filterwarnings("ignore")

Query = Callable[[str], list[float]]
Start = Callable[[list[str]], Query]
"""Encodes documents, and gives what answers queries over them."""


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

        def ask(query: str) -> list[float]:
            asked = model.encode([query], is_query=True, show_progress_bar=False)
            (ranked,) = rank.rerank([list(range(len(docs)))], asked, [encoded])
            return [hit["score"] for hit in sorted(ranked, key=lambda hit: hit["id"])]

        return ask

    return start


def sentence_transformers(directory: str) -> Start:
    from sentence_transformers import MultiVectorEncoder

    model = MultiVectorEncoder(directory, device="cpu")

    def start(docs: list[str]) -> Query:
        encoded = model.encode_document(docs, show_progress_bar=False)
        return lambda query: model.similarity(model.encode_query([query], show_progress_bar=False), encoded)[0].tolist()

    return start


def cross_encoder(directory: str) -> Start:
    """Ours, with a sequence classifier of the same shape: it reads every document again for every query."""
    import rerank_core

    model = rerank_core.load(directory, device="cpu", longdoc="firstp", max_length=180)
    return lambda docs: lambda query: model.rerank(query, docs).scores()


ENGINES = {
    "ours": ours, "pylate": pylate, "sentence-transformers": sentence_transformers, "cross-encoder": cross_encoder,
}  # fmt: skip


def main(name: str, directory: str) -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.disable(logging.WARNING)
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    start = ENGINES[name](directory)
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        asked = json.loads(Path(request["file"]).read_text(encoding="utf-8"))
        docs, queries = asked["docs"], asked["queries"]
        if request["few"]:
            docs, queries = docs[:40], queries[:2]
        began = time.perf_counter()
        ask = start(docs)
        scores = [ask(queries[0])]
        first = time.perf_counter() - began
        later = []
        for query in queries[1:]:
            began = time.perf_counter()
            scores.append(ask(query))
            later.append(time.perf_counter() - began)
        replies.write(json.dumps({"first": first, "later": sorted(later)[len(later) // 2], "scores": scores}) + "\n")
        replies.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
