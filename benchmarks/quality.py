"""Measures nDCG@10 of `mini` and `mini-multilingual` on judged public data, beside BM25; `make ndcg`.

    RERANK_DATA=... python benchmarks/quality.py [--only zh_t2rank100] [--fresh]

Candidates are shuffled, and equal scores count in the worst order. Before anything else the metric is checked: the
orders of two retrievers on TREC DL 2019 must have the figures that pyserini publishes. An interrupted run continues.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from parts.quality.dl19 import PUBLISHED, judged_queries
from parts.quality.ndcg import Judgements, ndcg10
from parts.quality.rankers import BASELINES, MODELS, SCORES, baselines, by_model, ranker_name
from parts.quality.sets import SETS, JudgedSet
from parts.run import ROOT, append, folders, machine, read, write

import rerank_core
from rerank_core.measures import paired

REFERENCE = "mini-multilingual"
"""The ranker that the others are compared with."""


def check_metric(data: Path) -> dict[str, float]:
    """nDCG@10 of the published orders of TREC DL 2019.

    Raises:
        SystemExit: a figure differs from the published one.
    """
    figures = {}
    for retriever, published in PUBLISHED.items():
        queries = judged_queries(data, retriever)
        scores = [[-float(position) for position in range(len(one.passages))] for one in queries]
        figure = round(mean(ndcg10(scores, [Judgements(one.grades, one.others) for one in queries])), 4)
        if figure != published:
            sys.exit(f"nDCG@10 of the order of {retriever} on TREC DL 2019 is {figure}, and {published} is published")
        figures[retriever] = figure
    return figures


def summary(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """For each set the mean of each ranker, and its paired difference from the reference with a 95 % interval."""
    by_set: dict[str, dict[str, list[float]]] = {}
    for entry in entries:
        by_set.setdefault(entry["set"], {})[entry["ranker"]] = entry["ndcg"]
    names = [*BASELINES, *(ranker_name(model, score) for model in MODELS for score in SCORES)]
    sets: dict[str, Any] = {}
    for name in (name for name in SETS if name in by_set):
        found, rankers = by_set[name], {}
        for ranker in (ranker for ranker in names if ranker in found):
            rankers[ranker] = {"ndcg10": round(mean(found[ranker]), 4)}
            if ranker != REFERENCE and REFERENCE in found:
                difference = paired(found[REFERENCE], found[ranker])
                figures = (difference.mean, difference.low, difference.high)
                rankers[ranker]["difference"] = [round(figure, 4) for figure in figures]
        sets[name] = {"queries": len(next(iter(found.values()))), "rankers": rankers}
    return sets


def measure(name: str, judged: JudgedSet, rerankers: dict[str, rerank_core.Reranker], state: Path) -> None:
    """Measure the rankers that have no entry in ``state`` for this set, and append one for each."""
    done = {entry["ranker"] for entry in read(state) if entry["set"] == name}

    def keep(names: tuple[str, ...], make: Callable[[], dict[str, list[float]]]) -> None:
        if done.issuperset(names):
            return
        for ranker, values in zip(names, make().values(), strict=True):
            append(state, {"set": name, "ranker": ranker, "ndcg": [round(value, 6) for value in values]})
            print(f"{name:24} {ranker:28} {mean(values):.4f}", file=sys.stderr, flush=True)

    keep(BASELINES, lambda: baselines(judged))
    for model, reranker in rerankers.items():
        names = tuple(ranker_name(model, score) for score in SCORES)
        keep(names, lambda reranker=reranker: by_model(reranker, judged))  # type: ignore[misc]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(SETS), metavar="SET", help="may be repeated")
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "quality.json")
    options = parser.parse_args()
    data, folder = folders()
    state = folder / "quality.jsonl"
    if options.fresh:
        state.unlink(missing_ok=True)
    figures = check_metric(data)
    # The reference first, so that an interrupted run has it.
    order = sorted(MODELS, key=lambda model: model != REFERENCE)
    rerankers = {model: rerank_core.load(model, device="cpu") for model in order}
    result: dict[str, Any] = {
        "machine": machine(),
        "versions": {name: importlib.metadata.version(name) for name in ("rerank-core", "transformers", "bm25s")},
        "max_length": {model: rerankers[model].spec.max_length for model in MODELS},
        "published_orders": figures,
    }
    for name in options.only or SETS:
        measure(name, SETS[name](data), rerankers, state)
        # Sets that this run does not measure keep the figures that they have.
        kept = options.json.is_file() and not options.fresh
        before = json.loads(options.json.read_text("utf-8"))["sets"] if kept else {}
        sets = {**before, **summary(read(state))}
        write(options.json, {**result, "reference": REFERENCE, "sets": {one: sets[one] for one in SETS if one in sets}})
    from tables.quality import quality  # in tools, whose folder parts.run adds to the path

    print(quality(options.json))


if __name__ == "__main__":
    main()
