"""Timings of late interaction beside PyLate and sentence-transformers: the last part of `make bench`.

    RERANK_DATA=... python benchmarks/late.py [--rounds 5]

One checkpoint of PyLate's (BERT, 12 layers x 384, vectors of 128, random weights, the real tokenizer), 1,000 passages
of DL19 and eleven of its queries. Every engine in a process of its own, interleaved; scores compared in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import bench
import limit
import torch
from bench import Engine, machine
from environments import home

from rerank_core import load
from rerank_core.backends.torch.late_interaction.maxsim import maxsim
from rerank_core.testing.checkpoints import tiny_cross_encoder, tiny_encoder

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 384
SHAPE = {"layers": 12, "hidden": WIDTH, "positions": 512, "std": 0.05}
PEERS = ("pylate", "sentence-transformers")


def checkpoints(folder: Path, data: Path) -> tuple[Path, Path]:
    """PyLate's folder and a sequence classifier of the same shape, made once."""
    late, cross = folder / "colbert-12x384", folder / "cross-12x384"
    tokenizer = data / "tokenizers" / "bert-base-uncased"
    if not (cross / "model.safetensors").exists():
        tiny_cross_encoder(cross, "bert", tokenizer=tokenizer, **SHAPE)  # type: ignore[arg-type]
    if not (late / "modules.json").exists():
        base = tiny_encoder(folder / "bert-12x384", "bert", tokenizer=tokenizer, **SHAPE)  # type: ignore[arg-type]
        maker = Engine("pylate", late, "../tests/parity/late_worker.py")
        request = {"entry": "make", "framework": "pylate", "base": str(base), "directory": str(late), "settings": {}}
        assert maker.process.stdin is not None
        assert maker.process.stdout is not None
        maker.process.stdin.write(json.dumps(request) + "\n")
        maker.process.stdin.flush()
        made = maker.process.stdout.readline()
        maker.close()
        assert json.loads(made) == {}, made
    return late, cross


def texts(data: Path) -> dict[str, list[str]]:
    """1,000 passages and eleven queries."""
    file = data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    docs = list(dict.fromkeys(hit["content"] for entry in entries for hit in entry["hits"]))[:1000]
    return {"docs": docs, "queries": [entry["query"] for entry in entries[:11]]}


def work(directory: Path, asked: dict[str, list[str]]) -> float:
    """Floating-point operations in the linear layers for all documents' tokens."""
    model: Any = load(directory, device="cpu")
    longest = model.spec.max_length
    tokens = sum(
        min(longest, len(own) + model.scorer.overhead(own, own)) for own in model.scorer.tokenize(asked["docs"], "doc")
    )
    return float(tokens * limit.flops_per_token(12, WIDTH))


def products(directory: Path, asked: dict[str, list[str]]) -> dict[str, float]:
    """Milliseconds of a later query's parts: the matrix product alone, MaxSim, and reading the query."""
    model: Any = load(directory, device="cpu", longdoc="firstp", max_query_length=29)
    scorer = model.scorer
    index = model.index(asked["docs"])
    (tokens,) = scorer.tokenize([asked["queries"][1]], "query")
    row = scorer.query_row(tokens.first(29))
    place = index._stored[0].windows[0].embedding
    part = place.block.part("vectors", range(len(asked["docs"])))
    query, vectors = scorer.encode_queries([row])[0]["vectors"], part.all()
    turned = query.T.contiguous()
    timed = {
        "product": lambda: vectors @ turned,
        "maxsim": lambda: maxsim(query, part.read, part.lengths),
        "query": lambda: scorer.encode_queries([row]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(31):
        for name, call in timed.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: round(1000 * median(times), 2) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "late.json")
    given = parser.parse_args()
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    data = Path(os.environ["RERANK_DATA"])
    folder = home().parent / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)
    bench.ENVIRONMENT["pylate"] = ROOT / "tests" / "parity" / "late.txt"
    late, cross = checkpoints(folder, data)
    asked = texts(data)
    file = folder / "late.json"
    file.write_text(json.dumps(asked), encoding="utf-8")
    short = folder / "late-short.json"
    short.write_text(json.dumps({**asked, "queries": asked["queries"][:3]}), encoding="utf-8")
    names = ("ours", *PEERS, "cross-encoder")
    engines = {name: Engine(name, cross if name == "cross-encoder" else late, "late_engines.py") for name in names}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    limits: list[float] = []
    operations = work(late, asked)
    try:
        for engine in engines.values():
            engine.ask(file, few=True)
        for number in range(given.rounds):
            limits.append(operations / limit.measure(WIDTH))
            for name, engine in engines.items():
                # It reads all documents for every query, so three queries in one round say enough.
                if name == "cross-encoder" and number:
                    continue
                answer = engine.ask(short if name == "cross-encoder" else file)
                found[name].append(answer)
                line = f"first {answer['first']:7.2f} s, later {1000 * answer['later']:9.1f} ms"
                print(f"round {number} {name:22} {line}", file=sys.stderr)
    finally:
        for engine in engines.values():
            engine.close()
    result: dict[str, Any] = {"machine": machine(), "rounds": given.rounds, "engines": {}}
    for name, answers in found.items():
        figures = {key: round(median(answer[key] for answer in answers), 4) for key in ("first", "later")}
        for key in ("first", "later"):
            pairs = zip(answers, found["ours"], strict=False)
            figures[f"{key}_ratio"] = round(median(theirs[key] / mine[key] for theirs, mine in pairs), 2)
        if name in PEERS:
            mine = [score for scores in found["ours"][0]["scores"] for score in scores]
            theirs = [score for scores in answers[0]["scores"] for score in scores]
            figures["drift"] = max(abs(a - b) / max(1, abs(a)) for a, b in zip(theirs, mine, strict=True))
        result["engines"][name] = figures
    shares = (bound / answer["first"] for bound, answer in zip(limits, found["ours"], strict=True))
    result["first_share_of_limit"] = round(median(shares), 2)
    result["milliseconds"] = products(late, asked)
    given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
