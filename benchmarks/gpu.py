"""Measures tokens per second on a GPU: packed rows, padded rows, plain Hugging Face and sentence-transformers; and how
workers scale over the cores of the CPU.

    [RERANK_DATA=...] python benchmarks/gpu.py [--json FILE] [--only "Qwen3 0.6B"] [--minutes 8]

It needs this repository, torch, transformers and pytest; nothing is installed, read or downloaded. The run ends after
``--minutes``: bfloat16 comes first, then the CPU, then float16, and what was left out is printed.

The models have random weights: cross-encoders of XLM-R's architecture, and causal rerankers with the shapes and
templates of Qwen3-Reranker-0.6B and bge-reranker-v2-gemma. With RERANK_DATA they score the BM25 top-100 of TREC DL 2019
with real tokenizers (all queries; causal models the first eight), otherwise generated texts of log-normal length. The
time runs from token ids on the host to scores on the host: it includes building tensors, copies and kernel launches,
but no tokenization. `from texts` and sentence-transformers include tokenization; compare them with each other.

Tokens are counted without padding, and for causal models with each query's prefix once; the count is the same for every
way to score. `two threads` prepare a batch while another is computed, and `compiled` layers are translated by
torch.compile (on a GPU alone). `of peak` is the floating-point operations of the layers' linear modules for these
tokens, divided by the best rate of `torch.matmul` measured in this run at the shapes of these modules and in the same
dtype. Packed rows skip most of the last layer, but the count includes it: with 12 layers this adds up to a twelfth.
`MiB` is the peak memory above the memory in use before; `off` is the largest difference from Hugging Face's scores
divided by their standard deviation.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), *map(str, ROOT.glob("plugins/*/src"))]  # nothing has to be installed

import torch  # noqa: E402
import transformers  # noqa: E402
from parts.gpu import scaling  # noqa: E402
from parts.gpu.clock import Clock  # noqa: E402
from parts.gpu.subjects import (  # noqa: E402
    QUICK,
    SHAPES,
    Subject,
    compiled,
    generated,
    linears,
    passages,
    subject,
    with_two_threads,
)
from parts.gpu.timing import Way, matmul_peak, measure  # noqa: E402
from parts.gpu.ways import from_texts, hugging_face, least_tokens, ours, sentence_transformers  # noqa: E402

from rerank_core.planning.row_plan import Job  # noqa: E402
from rerank_core.types import Document  # noqa: E402

BUDGETS = (65536, 16384, 32768, 8192)
DTYPES = ("bfloat16", "float16", "float32")
CPU = "CPU"
"""The task that measures workers; it takes the time of two shapes."""


def ways(model: Subject, jobs: Sequence[Job], folder: Path, options: Any) -> dict[str, Way]:
    """Every way to score with a model, by name; the most important first."""
    largest, *smaller = options.budgets
    by_name = {f"packed, {largest}": ours(model, jobs, largest)}
    by_name.update({f"Hugging Face, {count}": hugging_face(model, jobs, count) for count in (128, 32)})
    by_name[f"two threads, {2 * largest}"] = ours(with_two_threads(model), jobs, 2 * largest)
    if model.shape.causal and model.plain.device.type == "cuda" and (translated := compiled(model)):
        by_name[f"compiled, {largest}"] = ours(translated, jobs, largest)
    if others := sentence_transformers(model, jobs, (128, 32), folder):
        by_name[f"from texts, {largest}"] = from_texts(model, jobs, largest)
        by_name.update(others)
    by_name.update({f"packed, {budget}": ours(model, jobs, budget) for budget in smaller})
    # A causal model repeats its prefix in padded rows, so one budget is enough.
    for budget in options.budgets[: 1 if model.shape.causal else 2]:
        by_name[f"padded, {budget}"] = ours(model, jobs, budget, packed=False)
    if model.plain.device.type == "cuda" and model.plain.dtype != torch.float32:
        by_name[f"packed by length, {largest}"] = ours(model, jobs, largest, allow_varlen=False)
    return by_name


def measure_model(
    name: str, dtype: str, texts: Sequence[tuple[str, list[str]]], options: Any, seconds: float
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the ways to score with one model in one dtype: rows of the table, and the names of the ways left out."""
    device = torch.device(options.device)
    clock = Clock(seconds)
    model = subject(options.shapes[name], device, dtype, options.data)
    if not model.packed.packed:
        sys.exit(f"{name} {dtype}: rows were not packed on {device}; the check at load time found different scores")
    few = texts[: options.queries or (8 if model.shape.causal else len(texts))]
    jobs = [Job(query, [Document(text) for text in docs], number) for number, (query, docs) in enumerate(few)]
    layers = linears(model.plain)
    peak = matmul_peak(layers, options.matmul_rows, options.matmul_times)
    with tempfile.TemporaryDirectory() as folder:
        every = ways(model, jobs, Path(folder), options)
        measured = measure(every, device, options.repeats, clock.left)
    tokens = least_tokens(model, jobs)
    flops = 2.0 * tokens * sum(layer.weight.numel() for layer in layers)
    expected = measured[next(way for way in measured if way.startswith("Hugging Face"))]["scores"]
    spread = statistics.pstdev(expected)
    rows = [
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
    return rows, [way for way in every if way not in measured]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rows of one model as lines of the table."""
    for row in rows:
        memory = "-" if row["memory MiB"] is None else f"{row['memory MiB']:.0f}"
        print(
            f"{row['shape']:12} {row['dtype']:9} {row['way']:26} {row['tokens/s']:11,.0f} {row['of peak']:8.2f} "
            f"{row['peak TFLOP/s']:8.2f} {memory:>8} {row['off']:8.1e}",
            flush=True,
        )


def show_scaling(items: Sequence[dict[str, Any]]) -> None:
    """Print how workers of one process compare with as many processes of one thread."""
    print(f"{'CPU workers':>11} {'tokens/s':>11} {'processes of one thread':>24} {'share':>6}")
    for item in items:
        figures = f"{item['tokens/s']:11,} {item['processes tokens/s']:24,} {item['of processes']:6.2f}"
        print(f"{item['workers']:11} {figures}", flush=True)


def settings() -> Any:
    """Options of the command line; with ``--quick`` everything is small enough for a CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    out = os.environ.get("OUT")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path(out) / "gpu.json" if out else None,
        help="write the results to this file after each model (default: gpu.json in the folder $OUT, if that is set)",
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="the run ends in this time (default: 8)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float16"], choices=DTYPES)
    names = ", ".join(map(repr, (*SHAPES, CPU)))
    parser.add_argument("--only", nargs="+", metavar="SHAPE", help=f"of {names}")
    parser.add_argument("--budgets", nargs="+", type=int, default=list(BUDGETS), help="tokens per batch")
    parser.add_argument("--queries", type=int, help="number of queries; each has a hundred documents")
    parser.add_argument("--quick", action="store_true", help="tiny models and few texts, to check that the script runs")
    options = parser.parse_args()
    options.matmul_rows, options.matmul_times = (4096, 16384, 65536), 10
    options.shapes, options.scaled = SHAPES, {"layers": 12, "width": 384, "documents": 100, "rounds": 3}
    if options.quick:
        options.shapes, options.scaled = QUICK, {"layers": 2, "width": 64, "documents": 10, "rounds": 1}
        options.budgets, options.matmul_rows, options.matmul_times = [512], (256,), 2
        options.repeats, options.dtypes = 1, ["bfloat16", "float32"]
    if unknown := sorted(set(options.only or ()) - {*options.shapes, CPU}):
        parser.error(f"no shape is called {unknown[0]!r}; there are {', '.join(map(repr, (*options.shapes, CPU)))}")
    data = None if options.quick else os.environ.get("RERANK_DATA")
    options.data = Path(data) if data else None
    return options


def tasks_of(options: Any) -> list[tuple[str, str]]:
    """Shapes and dtypes in the order of the run; the CPU comes after the first dtype."""
    wanted = options.only or [*options.shapes, CPU]
    shapes = [name for name in options.shapes if name in wanted]
    first, *others = ([(name, dtype) for name in shapes] for dtype in options.dtypes)
    return [*first, *([(CPU, "float32")] if CPU in wanted else []), *(task for tasks in others for task in tasks)]


def main() -> None:
    """Measure, print, and write."""
    options = settings()
    transformers.utils.logging.disable_progress_bar()
    clock = Clock(60 * options.minutes - 10)  # the end of the last task is not exact
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
        "cores": max(scaling.counts(2**20)),
    }
    result: dict[str, Any] = {"environment": environment, "rows": [], "scaling": [], "left out": []}
    print(json.dumps(environment))
    print(
        f"{'shape':12} {'dtype':9} {'way, budget or rows':26} {'tokens/s':>11} {'of peak':>8} {'TFLOP/s':>8} "
        f"{'MiB':>8} {'off':>8}"
    )
    tasks = tasks_of(options)
    took: dict[str, float] = {}
    for number, (name, dtype) in enumerate(tasks):
        left = clock.left
        if left < took.get(name, 10.0) / 2:  # the second dtype of a shape takes as long as the first
            result["left out"].append(f"{name} {dtype}")
            continue
        seconds = clock.share([2.0 if task == CPU else 1.0 for task, _ in tasks[number:]])
        if name == CPU:
            result["scaling"] = scaling.measure(scaling.counts(), seconds=seconds, **options.scaled)
            show_scaling(result["scaling"])
        else:
            rows, missing = measure_model(name, dtype, texts, options, seconds)
            show(rows)
            result["rows"] += rows
            result["left out"] += [f"{name} {dtype} {way}" for way in missing]
        took[name] = left - clock.left
        if options.json:
            options.json.write_text(json.dumps(result, indent=2), encoding="utf-8")
    print(f"left out: {', '.join(result['left out']) or 'nothing'}")


if __name__ == "__main__":
    main()
