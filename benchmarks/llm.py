"""Timings of causal rerankers beside other runtimes: the second half of `make bench`.

    RERANK_DATA=... python benchmarks/llm.py [--rounds 5]

As bench.py: every engine in a process of its own, interleaved, scores compared in the same run. The shapes are scaled
down to run here: Qwen3's (8 layers x 512), Gemma's with the output layer's share of gemma-2b's work (18 layers x 256),
both under real tokenizers; and 40 layers of MiniCPM, ours against ours, for the cascade.
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

import torch
from bench import Engine, _drift, machine
from environments import home
from qwen3_card import AFTER, BODY, SETTINGS, SYSTEM
from workloads import requests

import rerank_core
from rerank_core.testing.decoders import tiny_causal_lm, write_tokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugins" / "rerank_bge" / "tests"))
from bge_tensors import MINICPM, write  # noqa: E402

# Batches of 32 long rows do not fit plain Hugging Face's caches: it takes minutes there, and says nothing.
CELLS = {
    ("qwen3-8x512", "dl19"): ("sentence-transformers", "transformers"),
    ("gemma-18x256", "dl19"): ("flagembedding", "transformers"),
    ("qwen3-8x512", "t2rank"): ("sentence-transformers",),
    ("gemma-18x256", "t2rank-sample"): ("flagembedding",),
}


def checkpoint(folder: Path, shape: str, data: Path) -> Path:
    """The directory of a shape, made once."""
    directory = folder / shape
    if (directory / "bench.json").exists():
        return directory
    if shape == "qwen3-8x512":
        tiny_causal_lm(
            directory, "qwen3", tokenizer=data / "tokenizers" / "qwen", layers=8, hidden=512, std=0.05,
            intermediate_size=1536, num_attention_heads=8, num_key_value_heads=4, head_dim=64,
            max_position_embeddings=8192, tie_word_embeddings=True,
        )  # fmt: skip
        own = SETTINGS
        given = {"template": "qwen3", "before": SYSTEM, "body": BODY, "after": AFTER}
    else:
        tiny_causal_lm(
            directory, "gemma", tokenizer=data / "tokenizers" / "llama2", layers=18, hidden=256, std=0.05,
            intermediate_size=2048, num_attention_heads=8, num_key_value_heads=1, head_dim=32,
            max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        own = {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": "<unk>",
            "padding_side": "left",
        }
        given = {"template": "bge"}
    file = directory / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **own}), encoding="utf-8")
    (directory / "bench.json").write_text(json.dumps(given), encoding="utf-8")
    return directory


def run_cell(shape: str, workload: str, rounds: int, folder: Path, data: Path) -> dict[str, Any]:
    """Each engine's median, as a multiple of ours in the same rounds."""
    directory = checkpoint(folder, shape, data)
    file = folder / f"{workload}.json"
    file.write_text(json.dumps(requests(workload, data)), encoding="utf-8")
    engines = {name: Engine(name, directory, "llm_engines.py") for name in ("ours", *CELLS[shape, workload])}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    drift: dict[str, float] = {}
    peak: dict[str, int] = {}
    try:
        for engine in engines.values():
            engine.ask(file, few=True)
        for number in range(rounds):
            scores: list[float] = []
            for name, engine in engines.items():
                answer = engine.ask(file)
                scores = scores or answer["scores"]
                seconds[name].append(answer["seconds"])
                drift[name], peak[name] = _drift(scores, answer["scores"], sigmoid=False), answer["peak"]
                print(f"{shape}/{workload} round {number} {name:22} {answer['seconds']:8.2f} s", file=sys.stderr)
    finally:
        for engine in engines.values():
            engine.close()
    figures = {
        name: {
            "seconds": round(median(times), 3),
            "ratio": round(median(a / b for a, b in zip(times, seconds["ours"], strict=True)), 2),
            "peak_mb": round(peak[name] / 2**20),
            "drift": drift[name],
        }
        for name, times in seconds.items()
    }
    return {"shape": shape, "workload": workload, "rounds": rounds, "engines": figures}


def run_cascade(rounds: int, folder: Path, data: Path) -> dict[str, Any]:
    """All documents at layer 28, against all at 8 and the best 30 from there on."""
    directory = folder / "minicpm-40x256"
    if not (directory / "model.safetensors").exists():
        size = write_tokenizer(directory, data / "tokenizers" / "llama2")
        small = {"hidden_size": 256, "intermediate_size": 640, "num_attention_heads": 8, "num_key_value_heads": 8}
        write(directory, {**MINICPM, **small, "vocab_size": size})
    ((query, docs),) = requests("dl19", data)
    model = rerank_core.load("bge-llm-layerwise", checkpoint=directory, device="cpu", layer=28)
    ways: dict[str, dict[str, Any]] = {"direct": {}, "cascade": {"cascade": {8: 30}}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, options in ways.items():
            started = time.perf_counter()
            model.rerank(query, docs, **options)
            if number:
                seconds[name].append(time.perf_counter() - started)
    ratio = median(a / b for a, b in zip(seconds["direct"], seconds["cascade"], strict=True))
    print(f"cascade: {ratio:.2f}", file=sys.stderr)
    return {
        "shape": "minicpm-40x256",
        "seconds": {k: round(median(v), 3) for k, v in seconds.items()},
        "ratio": round(ratio, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="SHAPE/WORKLOAD or cascade, as often as needed")
    parser.add_argument("--json", type=Path, default=ROOT / "benchmarks" / "results" / "llm.json")
    given = parser.parse_args()
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data and the real tokenizers")
    data = Path(os.environ["RERANK_DATA"])
    folder = home().parent / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(os.cpu_count() or 1)
    result: dict[str, Any] = (
        json.loads(given.json.read_text(encoding="utf-8")) if given.json.exists() else {"cells": []}
    )
    result["machine"] = machine()
    if not given.only or "cascade" in given.only:
        result["cascade"] = run_cascade(given.rounds, folder, data)
    for shape, workload in CELLS:
        if given.only and f"{shape}/{workload}" not in given.only:
            continue
        cell = run_cell(shape, workload, given.rounds, folder, data)
        others = [old for old in result["cells"] if (old["shape"], old["workload"]) != (shape, workload)]
        result["cells"] = [*others, cell]
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
