"""The table of docs/quality.md, from benchmarks/results (cog calls this; `make fix` writes the table)."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["quality"]

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "quality.json"
TITLES = {
    "zh_t2rank100": "T2Ranking, 100 queries of the seed",
    "zh_cmedir/dev": "cMedIR dev, grades 0 to 4",
    "zh_rgb/int": "RGB zh_int",
    "zh_dureader_demo/dev": "DuReader demo dev, whole pages",
    "multi_xquad/zh-zh": "XQuAD, Chinese",
    "multi_xquad/en-zh": "XQuAD, English to Chinese",
    "multi_xquad/zh-en": "XQuAD, Chinese to English",
    "en_trecdl19/bm25": "TREC DL 2019, BM25 top 100",
    "en_wikiqa/test": "WikiQA test",
    "en_nfcorpus/sample": "NFCorpus, BM25 top 25",
    "en_scifact/sample": "SciFact, BM25 top 25",
}


def quality(file: Path = RESULTS) -> str:
    """A row for each set: nDCG@10 of each ranker, in brackets the interval of its difference from the reference."""
    if not file.exists():
        return ""
    results = json.loads(file.read_text(encoding="utf-8"))
    rankers = list(dict.fromkeys(ranker for one in results["sets"].values() for ranker in one["rankers"]))
    rows = ["| " + " | ".join(["set", "queries", *rankers]) + " |", "|---|" + "--:|" * (len(rankers) + 1)]
    for name, one in results["sets"].items():
        cells = []
        for ranker in rankers:
            figures = one["rankers"].get(ranker)
            if figures is None:
                cells.append("")
                continue
            _, low, high = figures.get("difference", (0.0, 0.0, 0.0))
            interval = f" [{low:+.3f}, {high:+.3f}]" if "difference" in figures else ""
            cells.append(f"{figures['ndcg10']:.3f}{interval}")
        rows.append("| " + " | ".join([TITLES[name], f"{one['queries']:,}", *cells]) + " |")
    return "\n".join(rows)
