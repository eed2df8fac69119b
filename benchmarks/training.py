"""Times training in rerank-trainers, FlagEmbedding and sentence-transformers; part of `make bench`.

    RERANK_DATA=... python benchmarks/training.py [--rounds 5] [--only 6x384/wikiqa]
    RERANK_DATA=... python benchmarks/training.py --cuda [--here]

As in bench.py, every trainer runs in its own process, the trainers take turns, and figures are medians of five rounds.
Measurements are kept, so that an interrupted run continues (``--fresh`` starts again). A round is a few optimizer steps
over the same rows in the same order; engines/training_engines.py has the trainers. In the same run the losses of the
first two steps, by SGD without dropout, must equal ours to 1e-4; otherwise the engine's figures are refused.

On a GPU the model has BERT-base's shape, batches are larger and computed in bfloat16 (losses are compared in float32);
``--here`` starts every engine in this interpreter's environment, for a machine that cannot build others.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from engines.engine import PEERS as PEER_REQUIREMENTS
from engines.engine import Engine
from engines.training_engines import STILL
from parts.run import ROOT, append, drift, folders, machine, read, write
from parts.summary import summary

Groups = list[tuple[str, list[str]]]
DOCS = 8
NEAR = 1e-4
"""Largest difference at which the losses of the first steps count as equal."""


@dataclass(frozen=True)
class Cell:
    """The work of a round: ``steps`` optimizer steps, each of ``batch`` queries with eight documents."""

    layers: int
    tokenizer: str
    batch: int
    steps: int
    max_length: int
    engines: tuple[str, ...]
    width: int = 384
    precision: str = "float32"


PEERS = ("flagembedding", "sentence-transformers", "sentence-transformers-bce")
CELLS = {
    "6x384/wikiqa": Cell(6, "bert-base-uncased", 8, 4, 256, ("ours", "ours-padded", *PEERS)),
    # Long rows: one step a round, without BCE, whose padded batch is as large as FlagEmbedding's.
    "12x384/t2rank": Cell(12, "bert-base-chinese", 2, 1, 512, ("ours", "ours-padded", *PEERS[:2])),
}
ON_CUDA = {
    "12x768/wikiqa": Cell(
        12, "bert-base-uncased", 64, 4, 256, ("ours", "ours-padded", "ours-wide", *PEERS[:2]), 768, "bf16"
    ),
    "12x768/t2rank": Cell(
        12, "bert-base-chinese", 8, 4, 512, ("ours", "ours-padded", "ours-wide", *PEERS[:2]), 768, "bf16"
    ),
}
ALL = {**CELLS, **ON_CUDA}
# Our engine with the same loss, where it is not "ours".
BESIDE = {"sentence-transformers-bce": "ours-bce"}


def groups_of(workload: str, data: Path, count: int) -> Groups:
    """``count`` queries, each with one relevant document, then seven irrelevant ones of the same query."""
    draw = random.Random(2026)
    sides_of: dict[str, tuple[list[str], list[str]]] = {}
    if workload == "wikiqa":
        with gzip.open(data / "en_wikiqa" / "WikiQA-train.tsv.gz", "rt", encoding="utf-8", errors="replace") as file:
            for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                sides_of.setdefault(line["Question"], ([], []))[line["Label"] == "0"].append(line["Sentence"])
    else:
        for text in (data / "zh_t2rank100" / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(text)
            sides_of[entry["query"]] = (entry["pos"], entry["neg"])
    fitting = {query: sides for query, sides in sides_of.items() if sides[0] and len(sides[1]) >= DOCS - 1}
    chosen = draw.sample(list(fitting.items()), count)
    return [(query, [draw.choice(pos), *draw.sample(neg, DOCS - 1)]) for query, (pos, neg) in chosen]


def checkpoint(folder: Path, cell: Cell, data: Path) -> Path:
    """A BERT of the cell's shape with the real tokenizer; beside it the same model without dropout. Written once."""
    directory = folder / f"train-{cell.tokenizer}-{cell.layers}x{cell.width}"
    still = directory.with_name(directory.name + STILL)
    if (still / "model.safetensors").exists():
        return directory
    import torch
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification

    source = data / "tokenizers" / cell.tokenizer / "tokenizer.json"
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "unk", "pad", "mask")}
    settings = {"tokenizer_class": "BertTokenizerFast", "model_max_length": 512, **roles}
    for path, dropout in ((directory, 0.1), (still, 0.0)):
        path.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path / "tokenizer.json")
        (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=Tokenizer.from_file(str(source)).get_vocab_size(), num_hidden_layers=cell.layers,
            hidden_size=cell.width, num_attention_heads=12, intermediate_size=4 * cell.width, num_labels=1,
            initializer_range=0.05, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            classifier_dropout=dropout,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(str(path))
    return directory


def tokens_of(directory: Path, groups: Groups, max_length: int) -> int:
    """Number of tokens of the rows, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    pairs = [(query, doc) for query, docs in groups for doc in docs]
    return sum(min(max_length, len(row.ids)) for row in tokenizer.encode_batch(pairs))


def run_cell(
    name: str, names: list[str], rounds: int, folder: Path, data: Path, state: Path, peers: Path | None
) -> None:
    """Time one cell; every measurement becomes a line of ``state``. ``peers``: requirements of the other libraries."""
    cell = ALL[name]
    groups = groups_of(name.partition("/")[2], data, cell.batch * cell.steps)
    directory = checkpoint(folder, cell, data)
    file = folder / f"training-{name.replace('/', '-')}.json"
    work = {"groups": groups, "batch": cell.batch, "max_length": cell.max_length, "precision": cell.precision}
    work["device"] = "cuda" if name in ON_CUDA else "cpu"
    file.write_text(json.dumps(work), encoding="utf-8")
    done = {(entry["engine"], entry["round"]) for entry in read(state) if entry["cell"] == name}
    tokens = tokens_of(directory, groups, cell.max_length)
    engines: dict[str, Engine] = {}
    losses: dict[str, list[float]] = {}
    failed: set[str] = {engine for engine, number in done if number < 0}

    def started(engine: str) -> Engine:
        if engine not in engines:
            requirements = peers if engine in PEERS else None
            engines[engine] = Engine(engine, directory, "engines/training_engines.py", requirements)
            losses[engine] = engines[engine].ask(file, warm_up=True)["scores"]
        return engines[engine]

    try:
        for number in range(rounds):
            for engine in names:
                if (engine, number) in done or engine in failed or (number >= 3 and slow(state, name, engine)):
                    continue
                entry: dict[str, Any] = {"cell": name, "engine": engine, "round": number, "tokens": tokens}
                try:
                    answer = started(engine).ask(file)
                    apart = _checked_drift(losses, engine, started)
                except RuntimeError as error:
                    print(f"{name:16} {engine}: {error}", file=sys.stderr)
                    failed.add(engine)
                    append(state, {**entry, "round": -1, "error": str(error)})
                    continue
                append(state, {**entry, "seconds": answer["seconds"], "peak": answer["peak"], "drift": apart})
                print(f"{name:16} round {number} {engine:26} {answer['seconds']:8.2f} s", file=sys.stderr)
    finally:
        for one in engines.values():
            one.close()


def slow(state: Path, cell: str, engine: str) -> bool:
    """Whether an engine takes over three times as long as ours; then three rounds are enough."""
    entries = [entry for entry in read(state) if entry["cell"] == cell and "seconds" in entry]
    theirs, ours = ([e["seconds"] for e in entries if e["engine"] == name] for name in (engine, "ours"))
    return bool(theirs and ours) and median(theirs) > 3 * median(ours)


def _checked_drift(losses: dict[str, list[float]], engine: str, started: Any) -> float | None:
    """The largest difference of the losses of the first steps from ours; None for ours.

    Raises:
        RuntimeError: the losses differ, so the engine does not compute the same training steps as ours.
    """
    beside = BESIDE.get(engine, "ours")
    if engine == beside:
        return None
    started(beside)
    if beside not in losses:
        raise RuntimeError(f"its losses cannot be checked: {beside!r} did not start")
    difference = drift(losses[beside], losses[engine])
    if difference > NEAR:
        raise RuntimeError(f"its first losses are {losses[engine]!r}, ours {losses[beside]!r}")
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a cell; may be repeated")
    parser.add_argument("--cuda", action="store_true", help="the cells for a GPU")
    parser.add_argument("--here", action="store_true", help="every engine in this environment")
    parser.add_argument("--engines", help=f"comma-separated, of ours-padded, ours-bce, {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument(
        "--json",
        type=Path,
        help="file of the results (default: training.json in benchmarks/results, training-cuda.json with --cuda)",
    )
    options = parser.parse_args()
    kind = "training-cuda" if options.cuda else "training"
    results = options.json or ROOT / "benchmarks" / "results" / f"{kind}.json"
    data, folder = folders()
    state = folder / f"{kind}-state.jsonl"
    if options.fresh:
        state.unlink(missing_ok=True)
    cells = ON_CUDA if options.cuda else CELLS
    if unknown := sorted(set(options.only or ()) - set(cells)):
        parser.error(f"no cell is called {unknown[0]!r}; there are {', '.join(cells)}")
    for name in options.only or cells:
        names = ["ours", *options.engines.split(",")] if options.engines else list(cells[name].engines)
        peers = None if options.here else PEER_REQUIREMENTS
        run_cell(name, names, options.rounds, folder, data, state, peers)
        write(results, {"machine": machine(), "cells": summary(read(state))})


if __name__ == "__main__":
    main()
