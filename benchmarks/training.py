"""Training beside FlagEmbedding's and sentence-transformers' trainers: the last part of `make bench`.

    RERANK_DATA=... python benchmarks/training.py [--rounds 5] [--only 6x384/wikiqa]
    RERANK_DATA=... python benchmarks/training.py --cuda [--here]

As bench.py: every trainer in a process of its own, interleaved, medians of five rounds, kept as they are made, so that
an interrupted run goes on where it was (``--fresh`` starts again). A round is a few optimizer steps over the same rows
in the same order; training_engines.py says how each is driven. In the same run the losses of the first two steps, of
SGD without dropout, must be ours to 1e-4, or the engine's figures are refused.

On a GPU the model is BERT-base's shape, batches are larger and computed in bfloat16 (losses are compared in float32);
``--here`` starts every engine in this interpreter's environment, for a machine that cannot build others.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import bench
from bench import Engine, append, machine, read
from environments import home
from summary import summary
from training_engines import STILL

ROOT = Path(__file__).resolve().parent.parent
Groups = list[tuple[str, list[str]]]
DOCS = 8
NEAR = 1e-4


@dataclass(frozen=True)
class Cell:
    """What each engine is given: ``steps`` optimizer steps a round, of ``batch`` queries with eight documents."""

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
    # Long rows: one step a round, and BCE left out, whose padded batch is FlagEmbedding's.
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
# Each against ours with the same loss.
BESIDE = {"sentence-transformers-bce": "ours-bce"}


def groups_of(workload: str, data: Path, count: int) -> Groups:
    """``count`` queries, each with its relevant document first and seven others of its own."""
    draw = random.Random(2026)
    found: dict[str, tuple[list[str], list[str]]] = {}
    if workload == "wikiqa":
        with gzip.open(data / "en_wikiqa" / "WikiQA-train.tsv.gz", "rt", encoding="utf-8", errors="replace") as file:
            for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found.setdefault(line["Question"], ([], []))[line["Label"] == "0"].append(line["Sentence"])
    else:
        for text in (data / "zh_t2rank100" / "t2rank_100.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(text)
            found[entry["query"]] = (entry["pos"], entry["neg"])
    fitting = {query: sides for query, sides in found.items() if sides[0] and len(sides[1]) >= DOCS - 1}
    chosen = draw.sample(list(fitting.items()), count)
    return [(query, [draw.choice(pos), *draw.sample(neg, DOCS - 1)]) for query, (pos, neg) in chosen]


def checkpoint(folder: Path, cell: Cell, data: Path) -> Path:
    """A BERT of the cell's depth, 384 wide, under the real tokenizer; beside it the same one without dropout."""
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
    for place, dropout in ((directory, 0.1), (still, 0.0)):
        place.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place / "tokenizer.json")
        (place / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=Tokenizer.from_file(str(source)).get_vocab_size(), num_hidden_layers=cell.layers,
            hidden_size=cell.width, num_attention_heads=12, intermediate_size=4 * cell.width, num_labels=1,
            initializer_range=0.05, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            classifier_dropout=dropout,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(str(place))
    return directory


def tokens_of(directory: Path, groups: Groups, max_length: int) -> int:
    """Tokens of the rows, none of them padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    pairs = [(query, doc) for query, docs in groups for doc in docs]
    return sum(min(max_length, len(made.ids)) for made in tokenizer.encode_batch(pairs))


def run_cell(name: str, names: list[str], rounds: int, folder: Path, data: Path, state: Path) -> None:
    """Time one cell, a line of ``state`` for every measurement."""
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
            engines[engine] = Engine(engine, directory, "training_engines.py")
            losses[engine] = engines[engine].ask(file, few=True)["scores"]
        return engines[engine]

    try:
        for number in range(rounds):
            for engine in names:
                if (engine, number) in done or engine in failed or (number >= 3 and slow(state, name, engine)):
                    continue
                entry: dict[str, Any] = {"cell": name, "engine": engine, "round": number, "tokens": tokens}
                try:
                    answer = started(engine).ask(file)
                    drift = _drift(losses, engine, started)
                except RuntimeError as error:
                    print(f"{name:16} {engine}: {error}", file=sys.stderr)
                    failed.add(engine)
                    append(state, {**entry, "round": -1, "error": str(error)})
                    continue
                append(state, {**entry, "seconds": answer["seconds"], "peak": answer["peak"], "drift": drift})
                print(f"{name:16} round {number} {engine:26} {answer['seconds']:8.2f} s", file=sys.stderr)
    finally:
        for one in engines.values():
            one.close()


def slow(state: Path, cell: str, engine: str) -> bool:
    """Whether an engine takes over three times ours, so that three rounds say enough."""
    entries = [entry for entry in read(state) if entry["cell"] == cell and "seconds" in entry]
    theirs, own = ([e["seconds"] for e in entries if e["engine"] == name] for name in (engine, "ours"))
    return bool(theirs and own) and median(theirs) > 3 * median(own)


def _drift(losses: dict[str, list[float]], engine: str, started: Any) -> float | None:
    """How far the losses of the first steps lie from ours.

    Raises:
        RuntimeError: too far: the engine does not train on what ours does.
    """
    beside = BESIDE.get(engine, "ours")
    if engine == beside:
        return None
    started(beside)
    if beside not in losses:
        raise RuntimeError(f"nothing to compare with: {beside} did not start")
    drift = max(abs(a - b) / max(1.0, abs(a)) for a, b in zip(losses[beside], losses[engine], strict=True))
    if drift > NEAR:
        raise RuntimeError(f"its first losses are {losses[engine]!r}, ours {losses[beside]!r}")
    return drift


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a cell, as often as needed")
    parser.add_argument("--cuda", action="store_true", help="the cells for a GPU")
    parser.add_argument("--here", action="store_true", help="every engine in this environment")
    parser.add_argument("--engines", help=f"comma-separated, of ours-padded, ours-bce, {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier run measured")
    parser.add_argument("--json", type=Path, help="by default benchmarks/results/training.json, or training-cuda.json")
    given = parser.parse_args()
    kind = "training-cuda" if given.cuda else "training"
    results = given.json or ROOT / "benchmarks" / "results" / f"{kind}.json"
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    folder = home().parent / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / f"{kind}-state.jsonl"
    if given.fresh:
        state.unlink(missing_ok=True)
    bench.ENVIRONMENT.update(dict.fromkeys(PEERS, None if given.here else bench.PEERS))
    cells = ON_CUDA if given.cuda else CELLS
    if unknown := sorted(set(given.only or ()) - set(cells)):
        parser.error(f"no cell is called {unknown[0]!r}; there are {', '.join(cells)}")
    for name in given.only or cells:
        names = ["ours", *given.engines.split(",")] if given.engines else list(cells[name].engines)
        run_cell(name, names, given.rounds, folder, Path(os.environ["RERANK_DATA"]), state)
        result = {"machine": machine(), "cells": summary(read(state))}
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
