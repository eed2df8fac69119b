"""Times late interaction in rerank-core, PyLate and sentence-transformers; part of `make bench`.

    RERANK_DATA=... python benchmarks/late.py [--rounds 5]

One checkpoint that PyLate wrote (BERT, 12 layers x 384, vectors of 128, random weights, the real tokenizer), 1,000
passages of DL19 and eleven of its queries. Every engine runs in its own process, the engines take turns, scores are
compared in the same run, and an interrupted run continues. RERANK_BENCH_QUICK=1 takes 150 passages, and leaves out the
parts and our cross-encoder.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from engines.engine import LATE, REQUIREMENTS, Engine
from parts import limit
from parts.run import QUICK, drift, folders, machine, results, write
from parts.turns import Measurements, interleaved

from rerank_core import load
from rerank_core.backends.torch.late_interaction.maxsim import maxsim
from rerank_core.testing.checkpoints import tiny_cross_encoder, tiny_encoder

LAYERS, WIDTH = 12, 384
SHAPE = {"layers": LAYERS, "hidden": WIDTH, "positions": 512, "std": 0.05}
PEERS = ("pylate", "sentence-transformers")


def checkpoints(folder: Path, data: Path) -> tuple[Path, Path]:
    """PyLate's folder and a sequence classifier of the same shape, written once."""
    late, cross = folder / "colbert-12x384", folder / "cross-12x384"
    tokenizer = data / "tokenizers" / "bert-base-uncased"
    if not (cross / "model.safetensors").exists():
        tiny_cross_encoder(cross, "bert", tokenizer=tokenizer, **SHAPE)  # type: ignore[arg-type]
    if not (late / "modules.json").exists():
        base = tiny_encoder(folder / "bert-12x384", "bert", tokenizer=tokenizer, **SHAPE)  # type: ignore[arg-type]
        maker = Engine("pylate", late, "../tests/parity/late_worker.py", LATE)
        request = {"entry": "make", "framework": "pylate", "base": str(base), "directory": str(late), "settings": {}}
        answer = maker.send(request)
        maker.close()
        assert answer == {}, answer
    return late, cross


class Limit:
    """The rate of matrix products, which takes turns like an engine."""

    def ask(self, file: Path, *, warm_up: bool = False) -> dict[str, Any]:
        return {} if warm_up else {"rate": limit.measure(WIDTH)}

    def close(self) -> None:
        """Nothing to end."""


def texts(data: Path, count: int = 1000) -> dict[str, list[str]]:
    """Passages, and eleven queries."""
    file = data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    docs = list(dict.fromkeys(hit["content"] for entry in entries for hit in entry["hits"]))[:count]
    return {"docs": docs, "queries": [entry["query"] for entry in entries[:11]]}


def operations_of(directory: Path, docs: list[str]) -> float:
    """Floating-point operations in the linear layers for the tokens of all documents."""
    model: Any = load(directory, device="cpu")
    max_length, scorer = model.spec.max_length, model.scorer
    lengths = [len(tokens) + scorer.overhead(tokens, tokens) for tokens in scorer.tokenize(docs, "doc")]
    return float(sum(min(max_length, length) for length in lengths) * limit.flops_per_token(LAYERS, WIDTH))


def milliseconds_of(directory: Path, work: dict[str, list[str]]) -> dict[str, float]:
    """Milliseconds of the parts of a later query: the matrix product, MaxSim with that product, encoding the query."""
    model: Any = load(directory, device="cpu", longdoc="firstp", max_query_length=29)
    scorer = model.scorer
    index = model.index(work["docs"])
    (tokens,) = scorer.tokenize([work["queries"][1]], "query")
    row = scorer.query_row(tokens.first(29))
    embedding = index._stored[0].windows[0].embedding
    part = embedding.block.part("vectors", range(len(work["docs"])))
    query, vectors = scorer.encode_queries([row])[0]["vectors"], part.all()
    transposed = query.T.contiguous()
    timed = {
        "product": lambda: vectors @ transposed,
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


def figures_of(name: str, answers: list[dict[str, Any]], ours: list[dict[str, Any]]) -> dict[str, float]:
    """Median seconds of the first and of a later query, their median ratios to ours in the same round, and for other
    libraries the largest difference from our scores."""
    figures = {key: round(median(answer[key] for answer in answers), 4) for key in ("first", "later")}
    for key in ("first", "later"):
        pairs = zip(answers, ours, strict=False)  # the cross-encoder has one round
        figures[f"{key}_ratio"] = round(median(theirs[key] / own[key] for theirs, own in pairs), 2)
    if name in PEERS:
        scores = [[score for query in one[0]["scores"] for score in query] for one in (ours, answers)]
        figures["drift"] = drift(*scores)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2 if QUICK else 5)
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--json", type=Path, default=results("late"))
    options = parser.parse_args()
    data, folder = folders()
    measurements = Measurements(folder, "late", fresh=options.fresh)
    late, cross = checkpoints(folder, data)
    work = texts(data, 150 if QUICK else 1000)
    file, short = folder / "late.json", folder / "late-short.json"
    file.write_text(json.dumps(work), encoding="utf-8")
    short.write_text(json.dumps({**work, "queries": work["queries"][:3]}), encoding="utf-8")
    names = ("ours", *PEERS) if QUICK else ("ours", *PEERS, "cross-encoder")
    requirements = {**REQUIREMENTS, "pylate": LATE}
    engines: dict[str, Callable[[], Any]] = {
        name: functools.partial(
            Engine, name, cross if name == "cross-encoder" else late, "engines/late_engines.py", requirements.get(name)
        )
        for name in names
    }
    # The cross-encoder reads all documents for every query: three queries in one round are enough.
    files = {**dict.fromkeys(("limit", *names), file), "cross-encoder": short}
    turns = interleaved(
        {"limit": Limit, **engines},
        files,
        options.rounds,
        cell=f"12x384/{len(work['docs'])}",
        measurements=measurements,
        once=("cross-encoder",),
    )
    answers: dict[str, list[dict[str, Any]]] = {}
    for number, name, answer in turns:
        answers.setdefault(name, []).append(answer)
        if name != "limit":
            line = f"first {answer['first']:7.2f} s, later {1000 * answer['later']:9.1f} ms"
            print(f"round {number} {name:22} {line}", file=sys.stderr)
    limits = answers.pop("limit")
    result: dict[str, Any] = {
        "machine": machine(),
        "rounds": options.rounds,
        "passages": len(work["docs"]),
        "engines": {name: figures_of(name, each, answers["ours"]) for name, each in answers.items()},
    }
    operations = operations_of(late, work["docs"])
    shares = (operations / one["rate"] / ours["first"] for one, ours in zip(limits, answers["ours"], strict=True))
    result["first_share_of_limit"] = round(median(shares), 2)
    if not QUICK:
        result["milliseconds"] = milliseconds_of(late, work)
    write(options.json, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
