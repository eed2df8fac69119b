"""Timings beside other runtimes, on this machine, in one interleaved run: `make bench`.

    RERANK_DATA=... python benchmarks/bench.py [--only 12x384/dl19] [--engines ours,sentence-transformers]

Every engine runs in a process of its own, in its own environment (tools/environments.py). A round asks each in turn, so
that a slow minute of the machine falls on all; medians of five rounds, three for an engine that takes over three times
ours. Each measurement is kept as it is made: an interrupted run goes on where it was (``--fresh`` starts again).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import limit
import torch
from summary import summary
from workloads import CELLS, SHAPES, checkpoint, requests

import rerank_core

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from environments import home, python_of  # noqa: E402

PEERS = ROOT / "benchmarks" / "peers.txt"
ORIGINALS = ROOT / "tests" / "parity" / "originals.txt"
ENVIRONMENT = {
    "ours": None, "ours-int8": None, "sentence-transformers": PEERS, "flagembedding": PEERS,
    "rag-retrieval": ORIGINALS, "bcembedding": ORIGINALS, "rerankers": PEERS, "onnx-runtime": PEERS, "openvino": PEERS,
}  # fmt: skip
# At twenty queries the yardsticks say nothing that one query did not.
FEW = ("ours", "sentence-transformers", "rag-retrieval", "flagembedding")


class Engine:
    """A process that holds one model and scores when it is asked."""

    def __init__(self, name: str, directory: Path, script: str = "engines.py") -> None:
        requirements = ENVIRONMENT.get(name)
        python = sys.executable if requirements is None else str(python_of(requirements))
        environment = dict(os.environ)
        if requirements:  # what is set for this interpreter would mislead another
            environment = {key: value for key, value in environment.items() if not key.startswith("PYTHON")}
        self.name = name
        self.process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / script), name, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def ask(self, file: Path, *, few: bool = False) -> dict[str, Any]:
        """Seconds, scores and peak memory, or RuntimeError where the engine has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"file": str(file), "few": few}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self.process.stdin.close()
        self.process.wait(timeout=60)


def tokens_of(directory: Path, asked: list[tuple[str, list[str]]]) -> int:
    """Tokens of the rows, none of them padding."""
    reranker = rerank_core.load(directory, device="cpu", longdoc="firstp")
    overhead = 4
    total = 0
    for query, docs in asked:
        lengths = [len(tokens) for tokens in reranker.scorer.tokenize([query, *docs], "doc")]
        total += sum(min(512, lengths[0] + length + overhead) for length in lengths[1:])
    return total


def run_cell(shape: str, workload: str, names: list[str], rounds: int, folder: Path, data: Path, state: Path) -> None:
    """Time one cell, a line of ``state`` for every measurement."""
    cell = f"{shape}/{workload}"
    directory = checkpoint(folder, shape, data)
    asked = requests(workload, data)
    file = folder / f"{workload}.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    done = [entry for entry in read(state) if entry["cell"] == cell]
    seconds: dict[str, list[float]] = {}
    for entry in done:
        if "seconds" in entry:
            seconds.setdefault(entry["engine"], []).append(entry["seconds"])
    engines: dict[str, Engine] = {}
    tokens = tokens_of(directory, asked)
    kept = folder / f"{shape}-{workload}-scores.json"
    scores: list[float] = json.loads(kept.read_text(encoding="utf-8")) if seconds.get("ours") else []
    try:
        for number in range(rounds):
            for name in ["limit", *names]:
                have = seconds.setdefault(name, [])
                if len(have) > number or (number >= 3 and name in names and _slow(have, seconds["ours"])):
                    continue
                entry: dict[str, Any] = {"cell": cell, "engine": name, "round": number, "tokens": tokens}
                if name == "limit":
                    rate = limit.measure(SHAPES[shape])
                    entry["seconds"] = tokens * limit.flops_per_token(12, SHAPES[shape]) / rate
                else:
                    try:
                        if name not in engines:
                            engines[name] = Engine(name, directory)
                            first = engines[name].ask(file, few=True)
                        answer = engines[name].ask(file)
                    except (RuntimeError, subprocess.CalledProcessError) as error:
                        print(f"{cell:24} {name}: {error}", file=sys.stderr)
                        have.extend([float("inf")] * rounds)
                        append(state, {**entry, "error": str(error)})
                        continue
                    if not scores and name == "ours":
                        scores = answer["scores"]
                        kept.write_text(json.dumps(scores), encoding="utf-8")
                    entry.update(seconds=answer["seconds"], peak=answer["peak"], few=len(first["scores"]))
                    if name != "ours" and scores:
                        entry["drift"] = _drift(scores, answer["scores"], sigmoid=name == "bcembedding")
                have.append(entry["seconds"])
                append(state, entry)
                print(f"{cell:24} round {number} {name:22} {entry['seconds']:8.2f} s", file=sys.stderr)
    finally:
        for engine in engines.values():
            engine.close()


def _slow(theirs: list[float], ours: list[float]) -> bool:
    return bool(theirs) and median(theirs) > 3 * median(ours)


def _drift(ours: list[float], theirs: list[float], *, sigmoid: bool) -> float:
    """The largest difference of a score, relative to scores above 1."""
    if sigmoid:
        ours = torch.sigmoid(torch.tensor(ours)).tolist()
    return max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(ours, theirs, strict=True))


def read(state: Path) -> list[dict[str, Any]]:
    lines = state.read_text(encoding="utf-8").splitlines() if state.exists() else []
    return [json.loads(line) for line in lines]


def append(state: Path, entry: dict[str, Any]) -> None:
    with state.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor()
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    own = {"threads": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}
    return {"cpu": cpu, **gpu, **own}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="SHAPE/WORKLOAD, as often as needed")
    parser.add_argument("--engines", help=f"comma-separated, of {', '.join(ENVIRONMENT)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run measured")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "cpu.json")
    given = parser.parse_args()
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    data = Path(os.environ["RERANK_DATA"])
    folder = home().parent / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.jsonl"
    if given.fresh:
        state.unlink(missing_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)
    for shape, workload in CELLS:
        if given.only and f"{shape}/{workload}" not in given.only:
            continue
        names = list(FEW if workload == "dl19-20x50" else ENVIRONMENT)
        if given.engines:
            names = ["ours", *(name for name in names if name in given.engines.split(",") and name != "ours")]
        run_cell(shape, workload, names, given.rounds, folder, data, state)
        result = {"machine": machine(), "cells": summary(read(state))}
        given.json.parent.mkdir(exist_ok=True)
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
