"""Times the training of embedding and late-interaction models beside sentence-transformers and PyLate, and measures
memory.

    RERANK_DATA=... python benchmarks/vector_speed.py speed [--rounds 5] [--here] [--tiny]
    RERANK_DATA=... python benchmarks/vector_speed.py memory [--tiny]

Speed: as in training.py, every trainer runs in its own process, the trainers take turns, and figures are medians of the
rounds; a trainer whose losses of the first two steps are not ours to 1e-4 is refused. Measurements are kept, so that an
interrupted run continues (``--fresh`` starts again). ``--here`` starts the trainers of sentence-transformers in this
interpreter's environment.

Memory: the largest resident memory of a fresh process that trains two steps of 32 or of 1,024 queries, with 2,048
tokens a pass. The 32 queries are those with the longest texts among the 1,024, because the memory of a pass also grows
with the length of its texts. Each is measured with glibc's own settings, and with
MALLOC_MMAP_THRESHOLD_=131072, with which glibc returns freed blocks to the system, so that the process does not grow by
the gaps between blocks. Results are in benchmarks/results/vector_speed.json; docs/training-results.md shows them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.engine import LATE, PEERS, Engine
from engines.training_engines import STILL
from parts.run import ROOT, append, drift, folders, machine, read, write
from parts.summary import summary

RESULTS = ROOT / "benchmarks" / "results" / "vector_speed.json"
SCRIPT = "engines/vector_training_engines.py"
NEAR = 1e-4
"""Largest difference at which the losses of the first steps count as equal."""
ENVIRONMENTS = {"ours": None, "pylate-colbert": LATE}
"""The requirements of the engines that do not run in the environment of `PEERS`; None is this interpreter's."""
BUDGET = 2048
WIDTH = 128
ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "mmap": {"MALLOC_MMAP_THRESHOLD_": "131072"}}
"""Settings of glibc's allocator, as environment variables."""

Groups = list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Cell:
    """The work of a round: ``steps`` optimizer steps, each of ``batch`` queries with two documents."""

    kind: str
    batch: int
    steps: int
    peers: tuple[str, ...]
    layers: int = 6
    width: int = 384


CELLS = {
    "embedding-6x384/wikiqa": Cell("embedding", 64, 4, ("sentence-transformers", "sentence-transformers-cached")),
    "colbert-6x384/wikiqa": Cell("colbert", 64, 4, ("sentence-transformers-colbert",)),
    # With 64 queries a step PyLate's process was killed (exit code -9; 24 GB).
    "colbert-6x384/wikiqa-16": Cell("colbert", 16, 8, ("sentence-transformers-colbert", "pylate-colbert")),
}


def groups_of(data: Path, count: int) -> Groups:
    """``count`` WikiQA questions with a sentence of their article that answers, or else any, and another one. All texts
    are different, so that none is masked as a duplicate.

    Raises:
        ValueError: there are not so many.
    """
    import csv

    found: dict[str, tuple[list[str], list[str]]] = {}
    with gzip.open(data / "en_wikiqa" / "WikiQA-train.tsv.gz", "rt", encoding="utf-8", errors="replace") as file:
        for line in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            found.setdefault(line["Question"], ([], []))[line["Label"] == "0"].append(line["Sentence"])
    groups: Groups = []
    used: set[str] = set()
    for query, (relevant, others) in found.items():
        docs = [text for text in dict.fromkeys([*relevant[:1], *others]) if text not in used][:2]
        if len(docs) == 2:
            used.update(docs)
            groups.append((query, docs))
    if len(groups) < count:
        raise ValueError(f"WikiQA gives {len(groups)} groups, and {count} are needed")
    return groups[:count]


def checkpoint(folder: Path, kind: str, data: Path, layers: int, width: int) -> Path:
    """A published model with random weights and a real tokenizer, which every library opens; beside it the same one
    without dropout. Written once."""
    directory = folder / f"train-{kind}-{layers}x{width}"
    if (directory / "ready").exists():
        return directory
    import shutil

    import torch
    from transformers import BertConfig, BertModel

    from rerank_trainers.config.parse import parse_config
    from rerank_trainers.kinds import kind_of
    from rerank_trainers.model.trained_model import open_model
    from rerank_trainers.publish.publish import publish

    base = folder / f"base-{layers}x{width}"
    base.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(data / "tokenizers" / "bert-base-uncased" / "tokenizer.json", base / "tokenizer.json")
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "unk", "pad", "mask")}
    settings = {"tokenizer_class": "BertTokenizerFast", "model_max_length": 512, **roles}
    (base / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 32, intermediate_size=4 * width,
        initializer_range=0.05,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(str(base))
    more = {"width": WIDTH, "reduce": "sum"} if kind == "colbert" else {"pooling": "mean"}
    opened = parse_config({"model": {"checkpoint": str(base), "kind": kind, "max_length": 256, **more}}).model
    publish(open_model(opened, kind_of(opened), name=directory.name), directory, overwrite=True)
    still = directory.with_name(directory.name + STILL)
    shutil.rmtree(still, ignore_errors=True)
    shutil.copytree(directory, still)
    saved = json.loads((still / "config.json").read_text(encoding="utf-8"))
    saved |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(saved), encoding="utf-8")
    (directory / "ready").touch()
    return directory


def work_of(groups: Groups, batch: int) -> dict[str, Any]:
    """The work as engines read it."""
    return {"groups": groups, "batch": batch, "max_length": 256, "precision": "float32", "device": "cpu"}


def tokens_of(directory: Path, groups: Groups, max_length: int = 256) -> int:
    """Number of tokens of all texts, each encoded alone, without padding."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = [text for query, docs in groups for text in (query, *docs)]
    return sum(min(max_length, len(row.ids)) for row in tokenizer.encode_batch(texts))


def run_cell(name: str, cell: Cell, rounds: int, folder: Path, data: Path, state: Path, here: bool) -> None:
    """Time one cell; every measurement becomes a line of ``state``, in which ours is called ``ours``."""
    groups = groups_of(data, cell.batch * cell.steps)
    directory = checkpoint(folder, cell.kind, data, cell.layers, cell.width)
    file = folder / f"vector-{name.replace('/', '-')}.json"
    file.write_text(json.dumps(work_of(groups, cell.batch)), encoding="utf-8")
    tokens = tokens_of(directory, groups)
    done = {(entry["engine"], entry["round"]) for entry in read(state) if entry["cell"] == name}
    failed = {engine for engine, number in done if number < 0}
    engines: dict[str, Engine] = {}
    losses: dict[str, list[float]] = {}
    try:
        for number in range(rounds):
            for engine in ("ours", *cell.peers):
                if (engine, number) in done or engine in failed:
                    continue
                entry: dict[str, Any] = {"cell": name, "engine": engine, "round": number, "tokens": tokens}
                try:
                    for one in ("ours", engine):
                        if one not in engines:
                            kind = cell.kind if one == "ours" else one
                            engines[one] = Engine(
                                kind, directory, SCRIPT, ENVIRONMENTS.get(one, None if here else PEERS)
                            )
                            losses[one] = engines[one].ask(file, warm_up=True)["scores"]
                    apart = None if engine == "ours" else drift(losses["ours"], losses[engine])
                    if apart is not None and apart > NEAR:
                        raise RuntimeError(f"its first losses are {losses[engine]!r}, ours {losses['ours']!r}")
                    answer = engines[engine].ask(file)
                except RuntimeError as error:
                    print(f"{name:24} {engine}: {error}", file=sys.stderr)
                    failed.add(engine)
                    append(state, {**entry, "round": -1, "error": str(error)})
                    continue
                append(state, {**entry, "seconds": answer["seconds"], "peak": answer["peak"], "drift": apart})
                print(f"{name:24} round {number} {engine:30} {answer['seconds']:8.2f} s", file=sys.stderr)
    finally:
        for one in engines.values():
            one.close()


def peak(kind: str, directory: str, file: str) -> None:
    """Train two steps of the work in a file and print the largest resident memory of this process in bytes."""
    import resource
    import tempfile

    from engines.training_engines import arguments_of
    from engines.vector_training_engines import ENGINES

    work = json.loads(Path(file).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = arguments_of(Path(scratch), work, max_steps=2)
        trainer = ENGINES[kind](directory, work, arguments, train={"token_budget": BUDGET})
        trainer.train()
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def memory(batches: Sequence[int], folder: Path, data: Path) -> list[dict[str, Any]]:
    """A row for each kind, setting of the allocator and number of queries a step."""
    rows = []
    # One cell of each kind: cells of a kind have the same model.
    for cell in {cell.kind: cell for cell in CELLS.values()}.values():
        directory = checkpoint(folder, cell.kind, data, cell.layers, cell.width)
        longest = sorted(groups_of(data, max(batches)), key=lambda group: -max(map(len, group[1])))
        for batch in batches:
            groups = longest[:batch]
            file = folder / f"vector-memory-{batch}.json"
            file.write_text(json.dumps(work_of(groups, batch)), encoding="utf-8")
            command = [sys.executable, __file__, "peak", cell.kind, str(directory), str(file)]
            tokens = tokens_of(directory, groups)
            for allocator, settings in ALLOCATORS.items():
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, env={**os.environ, **settings}
                )
                if done.returncode:
                    raise RuntimeError(done.stderr[-2000:])
                rows.append({"kind": cell.kind, "queries": batch, "allocator": allocator, "tokens": tokens,
                             "vector_bytes": 4 * (tokens * WIDTH if cell.kind == "colbert" else 3 * batch * cell.width),
                             **json.loads(done.stdout.splitlines()[-1])})  # fmt: skip
                print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    if sys.argv[1:2] == ["peak"]:
        peak(*sys.argv[2:5])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--here", action="store_true", help="the trainers of sentence-transformers in this environment")
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--tiny", action="store_true", help="two layers and small steps, for a rehearsal")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file of the results")
    options = parser.parse_args()
    if options.tiny and options.json == RESULTS:
        parser.error("--tiny is a rehearsal: name another file with --json")
    data, folder = folders()
    folder = folder / "tiny" if options.tiny else folder
    folder.mkdir(exist_ok=True)
    if options.tiny:
        for name, cell in CELLS.items():
            CELLS[name] = Cell(cell.kind, 4, 2, cell.peers, 2, 64)
    kept = json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {}
    if options.what == "memory":
        write(
            options.json,
            {**kept, "machine": machine(), "memory": memory((4, 64) if options.tiny else (32, 1024), folder, data)},
        )
        return
    state = folder / "vector-speed-state.jsonl"
    if options.fresh:
        state.unlink(missing_ok=True)
    for name, cell in CELLS.items():
        run_cell(name, cell, options.rounds, folder, data, state, options.here)
        write(options.json, {**kept, "machine": machine(), "cells": summary(read(state))})


if __name__ == "__main__":
    main()
