"""Times cross-encoders in rerank-core and in other runtimes, in turns on the same machine: `make bench`.

    RERANK_DATA=... python benchmarks/bench.py [--only 12x384/dl19] [--engines ours,sentence-transformers]

Every engine runs in its own process and its own environment (tools/environments.py). In a round the engines take turns,
so that a slow minute of the machine affects all of them. Figures are medians of five rounds, or of three for an engine
that takes over three times as long as ours. Small requests and one query with 100 documents are also timed beside a
process that computes without pause. Measurements are kept in a file, and an interrupted run continues from them
(``--fresh`` discards them); those of other code are measured again. RERANK_BENCH_QUICK=1 measures the small requests
of one shape, in fewer rounds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from engines.engine import REQUIREMENTS
from parts.cell import LOAD, Cell, Running, run_cell
from parts.run import QUICK, folders, machine, results, write
from parts.summary import merged, summary
from parts.turns import Measurements
from parts.workloads import SHAPES, checkpoint
from tables.requests import loading, small_requests  # in tools, whose folder parts.run adds to the path

BULK = tuple(name for name in REQUIREMENTS if not name.endswith("int8"))
# Engines that are timed with twenty queries. For the others this cell would show no more than the cells with one query.
FEW = ("ours", "sentence-transformers", "rag-retrieval", "flagembedding")
SERVICE = ("ours", "ours-int8", "sentence-transformers", "onnx-runtime", "onnx-runtime-int8", "openvino")


def cells(*, quick: bool = QUICK) -> list[Cell]:
    """The cells in the order of a run: those of one shape together, and the largest requests last, because an engine's
    peak memory is that of its process."""

    rounds = 2 if quick else 5

    def of(shape: str) -> list[Cell]:
        every = SERVICE if quick else (*SERVICE, *(name for name in BULK if name not in SERVICE))
        return [
            Cell(shape, "dl19-1", SERVICE, SERVICE, rounds),
            Cell(shape, "dl19-10", SERVICE, SERVICE, rounds),
            Cell(shape, "dl19", every, SERVICE, 1 if quick else 5, limited=True),
        ]

    def load(shape: str) -> Cell:
        return Cell(shape, LOAD, SERVICE, rounds=1 if quick else 3)

    if quick:
        return [*of("12x384"), load("12x384")]
    return [
        *of("12x384"),
        Cell("12x384", "t2rank", BULK, limited=True),
        Cell("12x384", "dl19-20x50", FEW, limited=True),
        load("12x384"),
        *of("12x768"),
        Cell("12x768", "t2rank-sample", BULK, limited=True),
        load("12x768"),
    ]


def run(chosen: list[Cell], folder: Path, data: Path, state: Measurements) -> None:
    """Measure cells of one shape; the processes of the engines serve all of them."""
    running = Running(checkpoint(folder, chosen[0].shape, data))
    try:
        for cell in chosen:
            run_cell(cell, running, folder, data, state)
    finally:
        running.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="SHAPE/WORKLOAD; may be repeated")
    parser.add_argument("--engines", help=f"comma-separated, of {', '.join(REQUIREMENTS)}")
    parser.add_argument("--rounds", type=int, help="at most so many")
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--json", type=Path, default=results("cpu"))
    options = parser.parse_args()
    every = cells()
    if unknown := sorted(set(options.only or ()) - {cell.name for cell in every}):
        parser.error(f"no cell is called {unknown[0]!r}; there are {', '.join(cell.name for cell in every)}")
    data, folder = folders()
    state = Measurements(folder, "bench", fresh=options.fresh)
    kept = json.loads(options.json.read_text(encoding="utf-8"))["cells"] if options.json.exists() else []
    for shape in SHAPES:
        chosen = [cell for cell in every if cell.shape == shape and (not options.only or cell.name in options.only)]
        if options.engines:
            names = ("ours", *options.engines.split(","))
            chosen = [replace(cell, engines=[name for name in cell.engines if name in names]) for cell in chosen]
        if options.rounds:
            chosen = [replace(cell, rounds=min(options.rounds, cell.rounds)) for cell in chosen]
        if chosen:
            run(chosen, folder, data, state)
            write(options.json, {"machine": machine(), "cells": merged(kept, summary(state.all()))})
    for table in (small_requests, loading):
        print(table(options.json), end="\n\n")


if __name__ == "__main__":
    main()
