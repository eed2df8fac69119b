"""The tables of docs/evaluation.md, from benchmarks/results/evaluation.json (cog calls these)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["advice", "facts", "quality", "speed"]

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "evaluation.json"


def _results(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def quality(file: Path = RESULTS) -> str:
    """A row for each model, floor and ceiling: the mean over sets and the figure of each set, with its interval."""
    results = _results(file)
    metric, sets = results["metrics"][0], results["sets"]
    lines = [_row([metric, "mean", *(one["name"] for one in sets)]), _row(["---", *["--:"] * (len(sets) + 1)])]
    for mean in results["means"]:
        cells = [_figure(mean["figure"])]
        for one in sets:
            row = next((row for row in one["rows"] if _same(row, mean)), None)
            cells.append("" if row is None else _figure(row["figures"].get(metric)))
        lines.append(_row([mean["name"], *cells]))
    return "\n".join(lines)


def speed(file: Path = RESULTS) -> str:
    """A row for each model: parameters, memory, and the median and p95 time of a query on each set."""
    results = _results(file)
    sets = results["sets"]
    names = [mean["name"] for mean in results["means"] if mean["kind"] == "model"]
    lines = [_row(["median / p95, ms", "parameters", "memory", *(one["name"] for one in sets)])]
    lines.append(_row(["---", *["--:"] * (len(sets) + 2)]))
    for name in names:
        rows = [next(row for row in one["rows"] if row["kind"] == "model" and row["name"] == name) for one in sets]
        memory = max(row["facts"]["peak_bytes"] for row in rows)
        cells = [f"{rows[0]['facts']['parameters'] / 1e6:,.0f} M", f"{memory / 1e6:,.0f} MB"]
        for row in rows:
            took = row["speed"]
            cells.append("" if took is None else f"{took['median_ms']:,.0f} / {took['p95_ms']:,.0f}")
        lines.append(_row([name, *cells]))
    return "\n".join(lines)


def advice(file: Path = RESULTS) -> str:
    """What `--recommend` says, as a quotation."""
    return "\n".join(f"> {sentence}  " for sentence in _results(file)["advice"][:2])


def facts(file: Path = RESULTS) -> str:
    """The number of queries and candidates of each set."""
    results = _results(file)
    each = (f"{one['name']} {one['queries']} × {one['candidates'] / one['queries']:.0f}" for one in results["sets"])
    return f"Queries × mean number of candidates: {', '.join(each)}."


def _same(row: dict[str, Any], mean: dict[str, Any]) -> bool:
    return bool(row["kind"] == mean["kind"] and (row["kind"] != "model" or row["name"] == mean["name"]))


def _figure(figure: dict[str, float] | None) -> str:
    return "" if figure is None else f"{figure['mean']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
