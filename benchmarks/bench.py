"""Times cross-encoders in rerank-core and in other runtimes, in turns on the same machine: `make bench`.

    RERANK_DATA=... python benchmarks/bench.py [--only 12x384/dl19] [--engines ours,sentence-transformers]

Every engine runs in its own process and its own environment (tools/environments.py). In a round the engines take turns,
so that a slow minute of the machine affects all of them. Figures are medians of five rounds, or of three for an engine
that takes over three times as long as ours. Measurements are kept in a file, and an interrupted run continues from them
(``--fresh`` discards them).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from engines.engine import REQUIREMENTS, Engine
from parts import limit
from parts.run import ROOT, append, drift, folders, machine, read, write
from parts.summary import summary
from parts.workloads import CELLS, LAYERS, SHAPES, checkpoint, requests

import rerank_core

# Engines that are timed with twenty queries. For the others this cell would show no more than the cells with one query.
FEW = ("ours", "sentence-transformers", "rag-retrieval", "flagembedding")


def tokens_of(directory: Path, texts: list[tuple[str, list[str]]]) -> int:
    """Number of tokens of the rows, without padding."""
    reranker = rerank_core.load(directory, device="cpu", longdoc="firstp")
    overhead = 4
    total = 0
    for query, docs in texts:
        lengths = [len(tokens) for tokens in reranker.scorer.tokenize([query, *docs], "doc")]
        total += sum(min(512, lengths[0] + length + overhead) for length in lengths[1:])
    return total


def run_cell(shape: str, workload: str, names: list[str], rounds: int, folder: Path, data: Path, state: Path) -> None:
    """Time one cell; every measurement becomes a line of ``state``."""
    cell = f"{shape}/{workload}"
    directory = checkpoint(folder, shape, data)
    texts = requests(workload, data)
    file = folder / f"{workload}.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    seconds: dict[str, list[float]] = {}
    for entry in read(state):
        if entry["cell"] == cell and "seconds" in entry:
            seconds.setdefault(entry["engine"], []).append(entry["seconds"])
    engines: dict[str, Engine] = {}
    tokens = tokens_of(directory, texts)
    scores_file = folder / f"{shape}-{workload}-scores.json"
    scores: list[float] = json.loads(scores_file.read_text(encoding="utf-8")) if seconds.get("ours") else []
    try:
        for number in range(rounds):
            for name in ["limit", *names]:
                times = seconds.setdefault(name, [])
                if len(times) > number or (number >= 3 and name in names and _slow(times, seconds["ours"])):
                    continue
                entry: dict[str, Any] = {"cell": cell, "engine": name, "round": number, "tokens": tokens}
                if name == "limit":
                    rate = limit.measure(SHAPES[shape])
                    entry["seconds"] = tokens * limit.flops_per_token(LAYERS, SHAPES[shape]) / rate
                else:
                    try:
                        if name not in engines:
                            script = "engines/cross_encoder_engines.py"
                            engines[name] = Engine(name, directory, script, REQUIREMENTS[name])
                            engines[name].ask(file, warm_up=True)
                        answer = engines[name].ask(file)
                    except (RuntimeError, subprocess.CalledProcessError) as error:
                        print(f"{cell:24} {name}: {error}", file=sys.stderr)
                        times.extend([float("inf")] * rounds)
                        append(state, {**entry, "error": str(error)})
                        continue
                    if not scores and name == "ours":
                        scores = answer["scores"]
                        scores_file.write_text(json.dumps(scores), encoding="utf-8")
                    entry.update(seconds=answer["seconds"], peak=answer["peak"])
                    if name != "ours" and scores:
                        # BCEmbedding returns probabilities.
                        same = torch.sigmoid(torch.tensor(scores)).tolist() if name == "bcembedding" else scores
                        entry["drift"] = drift(same, answer["scores"])
                times.append(entry["seconds"])
                append(state, entry)
                print(f"{cell:24} round {number} {name:22} {entry['seconds']:8.2f} s", file=sys.stderr)
    finally:
        for engine in engines.values():
            engine.close()


def _slow(theirs: list[float], ours: list[float]) -> bool:
    return bool(theirs) and median(theirs) > 3 * median(ours)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="SHAPE/WORKLOAD; may be repeated")
    parser.add_argument("--engines", help=f"comma-separated, of {', '.join(REQUIREMENTS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "cpu.json")
    options = parser.parse_args()
    data, folder = folders()
    state = folder / "state.jsonl"
    if options.fresh:
        state.unlink(missing_ok=True)
    for shape, workload in CELLS:
        if options.only and f"{shape}/{workload}" not in options.only:
            continue
        names = list(FEW if workload == "dl19-20x50" else REQUIREMENTS)
        if options.engines:
            names = ["ours", *(name for name in names if name in options.engines.split(",") and name != "ours")]
        run_cell(shape, workload, names, options.rounds, folder, data, state)
        write(options.json, {"machine": machine(), "cells": summary(read(state))})


if __name__ == "__main__":
    main()
