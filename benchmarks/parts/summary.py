"""Computes the figures of each cell (a model shape with a workload) from single measurements."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

__all__ = ["summary"]


def summary(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One item for each cell: tokens, the share of the matrix-product limit, and the figures of each engine.

    ``ratio`` is the median over rounds of the engine's seconds divided by ours in the same round; a round without one
    of the two is left out.
    """
    cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for entry in entries:
        cells.setdefault(entry["cell"], {}).setdefault(entry["engine"], []).append(entry)
    return [_cell(name, engines) for name, engines in cells.items() if _times(engines.get("ours", []))]


def _times(entries: list[dict[str, Any]]) -> dict[int, float]:
    return {entry["round"]: entry["seconds"] for entry in entries if "seconds" in entry}


def _cell(name: str, engines: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    shape, workload = name.split("/")
    ours = _times(engines["ours"])
    tokens = engines["ours"][0]["tokens"]
    limits = _times(engines.get("limit", []))
    shares = [limits[number] / ours[number] for number in ours if number in limits]
    figures = {}
    for engine, entries in engines.items():
        times = _times(entries)
        if engine == "limit":
            continue
        if not times:
            figures[engine] = {"error": entries[0].get("error", "not run")}
            continue
        figures[engine] = {
            "seconds": round(median(times.values()), 3),
            "tokens_per_second": round(tokens / median(times.values())),
            "ratio": round(median(times[number] / ours[number] for number in times if number in ours), 2),
            "rounds": len(times),
            "peak_mb": round(max(entry["peak"] for entry in entries if "peak" in entry) / 2**20),
            "drift": max((entry["drift"] for entry in entries if entry.get("drift") is not None), default=None),
        }
    return {
        "shape": shape,
        "workload": workload,
        "tokens": tokens,
        "share_of_limit": round(median(shares), 2) if shares else None,
        "engines": figures,
    }
