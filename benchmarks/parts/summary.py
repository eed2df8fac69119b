"""Computes the figures of each cell (a model shape with a workload) from single measurements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

__all__ = ["merged", "summary"]


def summary(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One item for each cell: tokens, the share of the matrix-product limit, and the figures of each engine.

    ``ratio`` is the median over rounds of the engine's seconds divided by ours in the same round; a round without one
    of the two is left out. ``int8_ratio`` divides by our int8's seconds, ``busy_ratio`` compares the seconds beside a
    busy process, and ``slowdown`` divides an engine's seconds beside a busy process by its own seconds alone.
    """
    cells: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for entry in entries:
        cells.setdefault(entry["cell"], {}).setdefault(entry["engine"], []).append(entry)
    return [_cell(name, engines) for name, engines in cells.items() if _of("seconds", engines.get("ours", []))]


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of two results in the order of the old ones; a cell of both is the new one."""
    cells = {(cell["shape"], cell["workload"]): cell for cell in [*old, *new]}
    return list(cells.values())


def _of(key: str, entries: list[dict[str, Any]]) -> dict[int, float]:
    """A figure of each round that has it."""
    return {entry["round"]: entry[key] for entry in entries if key in entry}


def _ratio(above: Mapping[int, float], below: Mapping[int, float]) -> float | None:
    """The median ratio within a round."""
    ratios = [above[number] / below[number] for number in above if number in below]
    return round(median(ratios), 2) if ratios else None


def _cell(name: str, engines: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    shape, workload = name.split("/")
    figures = {engine: _figures(engine, engines) for engine in engines if engine != "limit"}
    return {
        "shape": shape,
        "workload": workload,
        "tokens": engines["ours"][0]["tokens"],
        "share_of_limit": _ratio(_of("seconds", engines.get("limit", [])), _of("seconds", engines["ours"])),
        "engines": figures,
    }


def _figures(engine: str, engines: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    entries, ours = engines[engine], engines["ours"]
    times = _of("seconds", entries)
    if not times:
        return {"error": entries[0].get("error", "not run")}
    figures: dict[str, Any] = {
        "seconds": round(median(times.values()), 4),
        "tokens_per_second": round(ours[0]["tokens"] / median(times.values())),
        "ratio": _ratio(times, _of("seconds", ours)),
        "rounds": len(times),
        "peak_mb": round(max(entry["peak"] for entry in entries if "peak" in entry) / 2**20),
        "drift": max((entry["drift"] for entry in entries if entry.get("drift") is not None), default=None),
    }
    if engine.endswith("int8"):
        figures["int8_ratio"] = _ratio(times, _of("seconds", engines.get("ours-int8", [])))
    if taus := _of("tau", entries):
        figures["kendall_tau"] = round(min(taus.values()), 3)
    if first := _of("first", entries):
        figures["first"] = round(median(first.values()), 4)
    if busy := _of("busy", entries):
        figures["busy_seconds"] = round(median(busy.values()), 4)
        figures["busy_ratio"] = _ratio(busy, _of("busy", ours))
        figures["slowdown"] = _ratio(busy, times)
    return figures
