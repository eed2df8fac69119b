"""Times causal rerankers in rerank-core and in other runtimes; part of `make bench`.

    RERANK_DATA=... python benchmarks/llm.py [--rounds 5]

As in bench.py, every engine runs in its own process, the engines take turns, scores are compared in the same run, and
an interrupted run continues. The shapes are scaled down to run on a CPU: Qwen3 (8 layers x 512) and Gemma (18 layers x
256, where the output layer has the same share of the work as in gemma-2b), both with real tokenizers; and 40 layers of
MiniCPM, which compare our cascade with our scores of all documents at one layer.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from engines.engine import REQUIREMENTS, Engine
from parts.qwen3_card import AFTER, BODY, SETTINGS, SYSTEM
from parts.run import ROOT, drift, folders, machine, results, write
from parts.turns import Measurements, interleaved
from parts.workloads import requests

import rerank_core
from rerank_core.testing.decoders import tiny_causal_lm, write_tokenizer

sys.path.insert(0, str(ROOT / "plugins" / "rerank_bge" / "tests"))
from bge_tensors import MINICPM
from bge_tensors import write as write_model

# On long rows plain Hugging Face batches of 32 take minutes, so they are not timed there.
CELLS = {
    ("qwen3-8x512", "dl19"): ("sentence-transformers", "transformers"),
    ("gemma-18x256", "dl19"): ("flagembedding", "transformers"),
    ("qwen3-8x512", "t2rank"): ("sentence-transformers",),
    ("gemma-18x256", "t2rank-sample"): ("flagembedding",),
}


def checkpoint(folder: Path, shape: str, data: Path) -> Path:
    """The checkpoint of a shape, written once."""
    directory = folder / shape
    if (directory / "bench.json").exists():
        return directory
    if shape == "qwen3-8x512":
        tiny_causal_lm(
            directory, "qwen3", tokenizer=data / "tokenizers" / "qwen", layers=8, hidden=512, std=0.05,
            intermediate_size=1536, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
            max_position_embeddings=8192, tie_word_embeddings=True,
        )  # fmt: skip
        settings = SETTINGS
        prompt = {"template": "qwen3", "before": SYSTEM, "body": BODY, "after": AFTER}
    else:
        tiny_causal_lm(
            directory, "gemma", tokenizer=data / "tokenizers" / "llama2", layers=18, hidden=256, std=0.05,
            intermediate_size=2048, num_attention_heads=8, num_key_value_heads=1, head_dim=32,
            max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        settings = {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<unk>",
            "padding_side": "left",
        }
        prompt = {"template": "bge"}
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **settings}), encoding="utf-8")
    (directory / "bench.json").write_text(json.dumps(prompt), encoding="utf-8")
    return directory


def run_cell(
    shape: str, workload: str, rounds: int, folder: Path, data: Path, measurements: Measurements
) -> dict[str, Any]:
    """Median seconds of each engine, and the median ratio to ours in the same round."""
    directory = checkpoint(folder, shape, data)
    file = folder / f"{workload}.json"
    file.write_text(json.dumps(requests(workload, data)), encoding="utf-8")
    engines = {
        name: functools.partial(Engine, name, directory, "engines/llm_engines.py", REQUIREMENTS.get(name))
        for name in ("ours", *CELLS[shape, workload])
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    drifts: dict[str, float] = {}
    peaks: dict[str, int] = {}
    scores: list[float] = []
    turns = interleaved(
        engines, dict.fromkeys(engines, file), rounds, cell=f"{shape}/{workload}", measurements=measurements
    )
    for number, name, answer in turns:
        if name == "ours":
            scores = answer["scores"]
        seconds[name].append(answer["seconds"])
        drifts[name], peaks[name] = drift(scores, answer["scores"]), answer["peak"]
        print(f"{shape}/{workload} round {number} {name:22} {answer['seconds']:8.2f} s", file=sys.stderr)
    figures = {
        name: {
            "seconds": round(median(times), 3),
            "ratio": round(median(a / b for a, b in zip(times, seconds["ours"], strict=True)), 2),
            "peak_mb": round(peaks[name] / 2**20),
            "drift": drifts[name],
        }
        for name, times in seconds.items()
    }
    return {"shape": shape, "workload": workload, "rounds": rounds, "engines": figures}


def run_cascade(rounds: int, folder: Path, data: Path, measurements: Measurements) -> dict[str, Any]:
    """All documents scored at layer 28, against all at layer 8 and only the best 30 at layer 28."""
    for known in measurements.of("cascade"):
        return dict(known["answer"])
    directory = folder / "minicpm-40x256"
    if not (directory / "model.safetensors").exists():
        size = write_tokenizer(directory, data / "tokenizers" / "llama2")
        small = {"hidden_size": 256, "intermediate_size": 640, "num_attention_heads": 8, "num_key_value_heads": 8}
        write_model(directory, {**MINICPM, **small, "vocab_size": size})
    ((query, docs),) = requests("dl19", data)
    model = rerank_core.load("bge-llm-layerwise", checkpoint=directory, device="cpu", layer=28)
    variants: dict[str, dict[str, Any]] = {"direct": {}, "cascade": {"cascade": {8: 30}}}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, arguments in variants.items():
            started = time.perf_counter()
            model.rerank(query, docs, **arguments)
            if number:
                seconds[name].append(time.perf_counter() - started)
    ratio = median(a / b for a, b in zip(seconds["direct"], seconds["cascade"], strict=True))
    print(f"cascade: {ratio:.2f}", file=sys.stderr)
    medians = {name: round(median(times), 3) for name, times in seconds.items()}
    answer = {"shape": "minicpm-40x256", "seconds": medians, "ratio": round(ratio, 2)}
    measurements.add({"cell": "cascade", "answer": answer})
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="SHAPE/WORKLOAD or cascade; may be repeated")
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--json", type=Path, default=results("llm"))
    options = parser.parse_args()
    data, folder = folders()
    measurements = Measurements(folder, "llm", fresh=options.fresh)
    result: dict[str, Any] = (
        json.loads(options.json.read_text(encoding="utf-8")) if options.json.exists() else {"cells": []}
    )
    result["machine"] = machine()
    if not options.only or "cascade" in options.only:
        result["cascade"] = run_cascade(options.rounds, folder, data, measurements)
    for shape, workload in CELLS:
        if options.only and f"{shape}/{workload}" not in options.only:
            continue
        cell = run_cell(shape, workload, options.rounds, folder, data, measurements)
        others = [old for old in result["cells"] if (old["shape"], old["workload"]) != (shape, workload)]
        result["cells"] = [*others, cell]
        write(options.json, result)
    write(options.json, result)


if __name__ == "__main__":
    main()
