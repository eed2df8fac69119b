"""Measures tokens per second on a GPU: packed rows, padded rows, plain Hugging Face and sentence-transformers.

    [RERANK_DATA=...] python benchmarks/gpu.py [--json FILE] [--only "Qwen3 0.6B"]

The models have random weights: cross-encoders of XLM-R's architecture, and causal rerankers with the shapes and
templates of Qwen3-Reranker-0.6B and bge-reranker-v2-gemma. With RERANK_DATA they score the BM25 top-100 of TREC DL 2019
with real tokenizers (all queries; causal models the first eight), otherwise generated texts of log-normal length. The
time runs from token ids on the host to scores on the host: it includes building tensors, copies and kernel launches,
but no tokenization. `from texts` and sentence-transformers include tokenization; compare them with each other.

Tokens are counted without padding, and for causal models with each query's prefix once; the count is the same for every
way to score. `of peak` is the floating-point operations of the layers' linear modules for these tokens, divided by the
best rate of `torch.matmul` measured in this run at the shapes of these modules and in the same dtype. Packed rows skip
most of the last layer, but the count includes it: with 12 layers this adds up to a twelfth. `MiB` is the peak memory
above the memory in use before; `off` is the largest difference from Hugging Face's scores divided by their standard
deviation.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from parts.gpu.subjects import QUICK, SHAPES, Subject, generated, linears, passages, subject
from parts.gpu.timing import Way, matmul_peak, measure
from parts.gpu.ways import from_texts, hugging_face, least_tokens, ours, sentence_transformers

from rerank_core.planning.row_plan import Job
from rerank_core.types import Document

BUDGETS = (2048, 4096, 8192, 16384, 32768, 65536)
DTYPES = ("bfloat16", "float16", "float32")


def ways(model: Subject, jobs: Sequence[Job], folder: Path, options: Any) -> dict[str, Way]:
    """Every way to score with a model, by name."""
    by_name = {f"Hugging Face, {count}": hugging_face(model, jobs, count) for count in (32, 128)}
    for budget in options.budgets:
        by_name[f"packed, {budget}"] = ours(model, jobs, budget)
        # A causal model repeats its prefix in padded rows, so one budget is enough.
        if not model.shape.causal or budget == options.budgets[-1]:
            by_name[f"padded, {budget}"] = ours(model, jobs, budget, packed=False)
    middle = options.budgets[len(options.budgets) // 2]
    if model.plain.device.type == "cuda" and model.plain.dtype != torch.float32:
        by_name[f"packed by length, {middle}"] = ours(model, jobs, middle, allow_varlen=False)
    if model.shape.causal:
        other = sentence_transformers(model, jobs, 32, folder)
        if other is not None:
            by_name[f"from texts, {middle}"] = from_texts(model, jobs, middle)
            by_name["sentence-transformers, 32"] = other
    return by_name


def measure_model(name: str, dtype: str, texts: Sequence[tuple[str, list[str]]], options: Any) -> list[dict[str, Any]]:
    """Measure every way to score with one model in one dtype, as rows of the table."""
    device = torch.device(options.device)
    model = subject(options.shapes[name], device, dtype, options.data)
    if not model.packed.packed:
        sys.exit(f"{name} {dtype}: rows were not packed on {device}; the check at load time found different scores")
    few = texts[: options.queries or (8 if model.shape.causal else len(texts))]
    jobs = [Job(query, [Document(text) for text in docs], number) for number, (query, docs) in enumerate(few)]
    layers = linears(model.plain)
    peak = matmul_peak(layers, options.matmul_rows, options.matmul_times)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(ways(model, jobs, Path(folder), options), device, options.repeats)
    tokens = least_tokens(model, jobs)
    flops = 2.0 * tokens * sum(layer.weight.numel() for layer in layers)
    expected = measured["Hugging Face, 32"]["scores"]
    spread = statistics.pstdev(expected)
    return [
        {
            "shape": name,
            "dtype": dtype,
            "way": way,
            "rows": len(expected),
            "tokens/s": tokens / (middle := statistics.median(each["times"])),
            "of peak": flops / middle / peak,
            "peak TFLOP/s": peak / 1e12,
            "memory MiB": None if each["memory"] is None else each["memory"] / 2**20,
            "seconds": each["times"],
            "off": max(abs(a - b) for a, b in zip(each["scores"], expected, strict=True)) / spread,
        }
        for way, each in sorted(measured.items(), key=lambda item: statistics.median(item[1]["times"]))
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of one model as lines of the table."""
    for row in rows:
        memory = "-" if row["memory MiB"] is None else f"{row['memory MiB']:.0f}"
        print(
            f"{row['shape']:12} {row['dtype']:9} {row['way']:26} {row['tokens/s']:11,.0f} {row['of peak']:8.2f} "
            f"{row['peak TFLOP/s']:8.2f} {memory:>8} {row['off']:8.1e}",
            flush=True,
        )


def settings() -> Any:
    """Options of the command line; with ``--quick`` everything is small enough for a CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write environment and rows to this file, after each model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--only", nargs="+", metavar="SHAPE", help=f"of {', '.join(map(repr, SHAPES))}")
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="tokens per batch")
    parser.add_argument("--queries", type=int, help="number of queries; each has a hundred documents")
    parser.add_argument("--quick", action="store_true", help="tiny models and few texts, to check that the script runs")
    options = parser.parse_args()
    options.matmul_rows, options.matmul_times = (4096, 16384, 65536), 10
    options.shapes = QUICK if options.quick else SHAPES
    if options.quick:
        options.budgets, options.matmul_rows, options.matmul_times = (512,), (256,), 2
        options.repeats, options.dtypes = 1, ["bfloat16", "float32"]
    if unknown := sorted(set(options.only or ()) - set(options.shapes)):
        parser.error(f"no shape is called {unknown[0]!r}; there are {', '.join(map(repr, options.shapes))}")
    data = None if options.quick else os.environ.get("RERANK_DATA")
    options.data = Path(data) if data else None
    return options


def main() -> None:
    """Measure, print, and write."""
    options = settings()
    on_gpu = torch.device(options.device).type == "cuda"
    if on_gpu and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --quick runs a tiny version of everything", file=sys.stderr)
        sys.exit(2)
    texts = passages(options.data) if options.data else generated(*((2, 6) if options.quick else (43, 100)))
    environment = {
        "device": torch.cuda.get_device_name(options.device) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": "TREC DL 2019, BM25 top-100" if options.data else "generated",
    }
    print(json.dumps(environment))
    print(
        f"{'shape':12} {'dtype':9} {'way, budget or rows':26} {'tokens/s':>11} {'of peak':>8} {'TFLOP/s':>8} "
        f"{'MiB':>8} {'off':>8}"
    )
    rows: list[dict[str, Any]] = []
    for name in options.only or options.shapes:
        for dtype in options.dtypes:
            rows += (latest := measure_model(name, dtype, texts, options))
            show(latest)
            if options.json:
                options.json.write_text(json.dumps({"environment": environment, "rows": rows}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
