"""Tables of docs/training-results.md on the speed and memory of training embedding and late-interaction models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["memory", "speed"]

RESULTS = Path(__file__).resolve().parents[3] / "benchmarks" / "results" / "vector_speed.json"
NOT_RUN = "not run yet"
KINDS = {"embedding": "embedding", "colbert": "ColBERT, width 128"}
PEERS = {
    ("embedding", "wikiqa", 64): {
        "sentence-transformers": "sentence-transformers, MultipleNegativesRankingLoss",
        "sentence-transformers-cached": "sentence-transformers, the same with GradCache",
    },
    ("colbert", "wikiqa", 64): {
        "sentence-transformers-colbert": "sentence-transformers, MultiVectorMultipleNegativesRankingLoss",
    },
    ("colbert", "wikiqa-16", 16): {
        "sentence-transformers-colbert": "sentence-transformers, MultiVectorMultipleNegativesRankingLoss",
        "pylate-colbert": "PyLate, Contrastive",
    },
}
"""The other trainers of a cell, by kind, workload and number of queries in a step."""
QUERIES = (32, 1024)
ALLOCATORS = ("default", "mmap")


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def speed(file: Path = RESULTS) -> str:
    """A row for each other trainer: our tokens per second, and how many times as long it takes."""
    cells = {
        (cell["shape"].partition("-")[0], cell["workload"]): cell["engines"] for cell in _read(file).get("cells", [])
    }
    rows = ["| model | queries a step | our tokens/s | other trainer | times as long |", "|---|--:|--:|---|--:|"]
    for (kind, workload, queries), peers in PEERS.items():
        engines = cells.get((kind, workload), {})
        ours = f"{engines['ours']['tokens_per_second']:,}" if engines else NOT_RUN
        for name, words in peers.items():
            figures = engines.get(name, {})
            ratio = f"{figures['ratio']:.2f}" if "ratio" in figures else figures.get("error", NOT_RUN)
            rows.append(f"| {KINDS[kind]} | {queries} | {ours} | {words} | {ratio} |")
    return "\n".join(rows)


def memory(file: Path = RESULTS) -> str:
    """A row for each kind and number of queries in a step: the process's largest memory, by the
    allocator's settings, and that of its vectors."""
    found = {(row["kind"], row["queries"], row["allocator"]): row for row in _read(file).get("memory", [])}
    rows = [
        "| model | queries a step | tokens | vectors, MB | peak, MB | times the smaller | with mmap, MB | times |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for kind, words in KINDS.items():
        for queries in QUERIES:
            row = found.get((kind, queries, "default"))
            cells = [f"{row['tokens']:,}", f"{row['vector_bytes'] / 2**20:.1f}"] if row else [NOT_RUN] * 2
            for allocator in ALLOCATORS:
                row, least = (found.get((kind, number, allocator)) for number in (queries, QUERIES[0]))
                if row and least:
                    cells += [f"{row['peak'] / 2**20:,.0f}", f"{row['peak'] / least['peak']:.2f}"]
                else:
                    cells += [NOT_RUN] * 2
            rows.append("| " + " | ".join([words, f"{queries:,}", *cells]) + " |")
    return "\n".join(rows)
