"""Times late interaction in rerank-core, PyLate and sentence-transformers; part of `make bench`.

    RERANK_DATA=... python benchmarks/late.py [--rounds 5]

One checkpoint that PyLate wrote (BERT, 12 layers x 384, vectors of 128, random weights, the real tokenizer), 1,000
passages of DL19 and eleven of its queries. Every engine runs in its own process, the engines take turns, and scores are
compared in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from engines.engine import LATE, REQUIREMENTS, Engine, interleaved
from parts import limit
from parts.run import ROOT, drift, folders, machine, write

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


def texts(data: Path) -> dict[str, list[str]]:
    """1,000 passages and eleven queries."""
    file = data / "en_trecdl" / "bm25" / "dl19.retrieve_results_top100.json"
    entries = json.loads(file.read_text(encoding="utf-8"))
    docs = list(dict.fromkeys(hit["content"] for entry in entries for hit in entry["hits"]))[:1000]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "late.json")
    options = parser.parse_args()
    data, folder = folders()
    late, cross = checkpoints(folder, data)
    work = texts(data)
    file = folder / "late.json"
    file.write_text(json.dumps(work), encoding="utf-8")
    short = folder / "late-short.json"
    short.write_text(json.dumps({**work, "queries": work["queries"][:3]}), encoding="utf-8")
    names = ("ours", *PEERS, "cross-encoder")
    requirements = {**REQUIREMENTS, "pylate": LATE}
    engines = {
        name: Engine(
            name, cross if name == "cross-encoder" else late, "engines/late_engines.py", requirements.get(name)
        )
        for name in names
    }
    answers_of: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    limits: list[float] = []
    operations = operations_of(late, work["docs"])
    # The cross-encoder reads all documents for every query: three queries in one round are enough.
    files = {**dict.fromkeys(names, file), "cross-encoder": short}
    for number, name, answer in interleaved(engines, files, options.rounds, once=("cross-encoder",)):
        answers_of[name].append(answer)
        if name == "ours":
            limits.append(operations / limit.measure(WIDTH))
        line = f"first {answer['first']:7.2f} s, later {1000 * answer['later']:9.1f} ms"
        print(f"round {number} {name:22} {line}", file=sys.stderr)
    result: dict[str, Any] = {"machine": machine(), "rounds": options.rounds, "engines": {}}
    for name, answers in answers_of.items():
        figures = {key: round(median(answer[key] for answer in answers), 4) for key in ("first", "later")}
        for key in ("first", "later"):
            pairs = zip(answers, answers_of["ours"], strict=False)
            figures[f"{key}_ratio"] = round(median(theirs[key] / ours[key] for theirs, ours in pairs), 2)
        if name in PEERS:
            ours, theirs = (
                [score for scores in one[0]["scores"] for score in scores] for one in (answers_of["ours"], answers)
            )
            figures["drift"] = drift(ours, theirs)
        result["engines"][name] = figures
    shares = (bound / answer["first"] for bound, answer in zip(limits, answers_of["ours"], strict=True))
    result["first_share_of_limit"] = round(median(shares), 2)
    result["milliseconds"] = milliseconds_of(late, work)
    write(options.json, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
