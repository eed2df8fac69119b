"""Tokens a second on a GPU: rows packed, rows padded, plain Hugging Face and sentence-transformers, in one run.

    [RERANK_DATA=...] python benchmarks/gpu.py [--json FILE] [--only "Qwen3 0.6B"]

Cross-encoders of XLM-R's architecture, and causal rerankers of the shapes and under the templates of
Qwen3-Reranker-0.6B and bge-reranker-v2-gemma, all with random weights, score the BM25 top-100 of TREC DL 2019 under
real tokenizers where RERANK_DATA names the data, else texts of log-normal length: all its queries, and the first eight
for causal models. What is timed begins with token ids on the host and ends with scores there: tensors, copies and
launches count, tokenization does not, but for `from texts` and sentence-transformers, to be compared with each other.

Tokens are those without padding, and for causal models with each query's prefix once, whoever computes them. `of peak`
is the floating-point operations of the layers' linear parts for these tokens, over the best rate of `torch.matmul`
measured in this run at those layers' shapes and in that dtype. Packed rows leave out most of the last layer, which the
count does not: at 12 layers that is worth up to a twelfth. `MiB` is the peak above weights and whatever else lay there
before; `off` the largest difference from Hugging Face's scores over their standard deviation.
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
from gpu_subjects import QUICK, SHAPES, Subject, judged, linears, made_up, subject
from gpu_timing import Way, matmul_peak, measure
from gpu_ways import from_texts, hugging_face, least_tokens, ours, sentence_transformers

from rerank_core.planning.row_plan import Job
from rerank_core.types import Document

BUDGETS = (2048, 4096, 8192, 16384, 32768, 65536)
DTYPES = ("bfloat16", "float16", "float32")


def ways(made: Subject, jobs: Sequence[Job], folder: Path, options: Any) -> dict[str, Way]:
    """Every way to score with a model, by name."""
    found = {f"Hugging Face, {count}": hugging_face(made, jobs, count) for count in (32, 128)}
    for budget in options.budgets:
        found[f"packed, {budget}"] = ours(made, jobs, budget)
        # A causal model repeats its prefix in padded rows; one width tells.
        if not made.shape.causal or budget == options.budgets[-1]:
            found[f"padded, {budget}"] = ours(made, jobs, budget, packed=False)
    middle = options.budgets[len(options.budgets) // 2]
    if made.plain.device.type == "cuda" and made.plain.dtype != torch.float32:
        found[f"packed by length, {middle}"] = ours(made, jobs, middle, allow_varlen=False)
    if made.shape.causal:
        other = sentence_transformers(made, jobs, 32, folder)
        if other is not None:
            found[f"from texts, {middle}"] = from_texts(made, jobs, middle)
            found["sentence-transformers, 32"] = other
    return found


def one(name: str, dtype: str, texts: Sequence[tuple[str, list[str]]], options: Any) -> list[dict[str, Any]]:
    """All ways of one model in one dtype, as rows of the table."""
    device = torch.device(options.device)
    made = subject(options.shapes[name], device, dtype, options.data)
    if not made.packed.packed:
        sys.exit(f"{name} {dtype}: rows could not be packed on {device}; the trial at load did not agree")
    few = texts[: options.queries or (8 if made.shape.causal else len(texts))]
    jobs = [Job(query, [Document(text) for text in docs], number) for number, (query, docs) in enumerate(few)]
    layers = linears(made.plain)
    peak = matmul_peak(layers, options.matmul_rows, options.matmul_times)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(ways(made, jobs, Path(folder), options), device, options.repeats)
    tokens = least_tokens(made, jobs)
    flops = 2.0 * tokens * sum(layer.weight.numel() for layer in layers)
    expected = found["Hugging Face, 32"]["scores"]
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
        for way, each in sorted(found.items(), key=lambda item: statistics.median(item[1]["times"]))
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Rows of one model as lines of the table."""
    for row in rows:
        memory = "-" if row["memory MiB"] is None else f"{row['memory MiB']:.0f}"
        print(
            f"{row['shape']:12} {row['dtype']:9} {row['way']:26} {row['tokens/s']:11,.0f} {row['of peak']:8.2f} "
            f"{row['peak TFLOP/s']:8.2f} {memory:>8} {row['off']:8.1e}",
            flush=True,
        )


def settings() -> Any:
    """The command line; ``--quick`` makes everything small enough for a CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write environment and rows here too, after each model")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--only", nargs="+", metavar="SHAPE", help=f"of {', '.join(map(repr, SHAPES))}")
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="tokens of a batch")
    parser.add_argument("--queries", type=int, help="the first so many; each has a hundred documents")
    parser.add_argument("--quick", action="store_true", help="tiny models, few texts: whether the script runs")
    options = parser.parse_args()
    options.matmul_rows, options.matmul_times = (4096, 16384, 65536), 10
    options.shapes = QUICK if options.quick else SHAPES
    if options.quick:
        options.budgets, options.matmul_rows, options.matmul_times = (512, 1024), (256,), 2
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
    texts = judged(options.data) if options.data else made_up(*((2, 6) if options.quick else (43, 100)))
    environment = {
        "device": torch.cuda.get_device_name(options.device) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": "TREC DL 2019, BM25 top-100" if options.data else "made up",
    }
    print(json.dumps(environment))
    print(
        f"{'shape':12} {'dtype':9} {'way, budget or rows':26} {'tokens/s':>11} {'of peak':>8} {'TFLOP/s':>8} "
        f"{'MiB':>8} {'off':>8}"
    )
    rows: list[dict[str, Any]] = []
    for name in options.only or options.shapes:
        for dtype in options.dtypes:
            rows += (some := one(name, dtype, texts, options))
            show(some)
            if options.json:
                options.json.write_text(json.dumps({"environment": environment, "rows": rows}, indent=2), "utf-8")


if __name__ == "__main__":
    main()
