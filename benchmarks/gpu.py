"""Tokens a second on a GPU: rows packed, rows padded, and plain Hugging Face, in one run and in turns.

    [RERANK_DATA=...] python benchmarks/gpu.py [--json FILE]

Cross-encoders of XLM-R's architecture with random weights score the BM25 top-100 of TREC DL 2019 with XLM-R's own
tokenizer where RERANK_DATA names the data, else texts of log-normal length. What is timed begins with token ids on the
host and ends with scores there: tensors, copies and launches count, tokenization does not (it is the same for all).

`of peak` is the floating-point operations of the encoder's linear layers for the tokens without padding, over the best
rate of `torch.matmul` measured in this run at those layers' shapes and in that dtype. Packed rows leave out most of the
last layer, which the count does not: at 12 layers that is worth up to a twelfth. `MiB` is the peak above weights and
whatever else lay there before; `off` the largest difference from Hugging Face's scores over their standard deviation.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification

from rerank_core import Head, ModelSpec, Template
from rerank_core.backends.tokens import TextTokenizer
from rerank_core.backends.torch.classifier import ClassifierScorer
from rerank_core.longdoc import FirstP
from rerank_core.rows import Job, RowPlan, Rules
from rerank_core.testing.checkpoints import tiny_tokenizer
from rerank_core.types import Document

SHAPES = {"12 x 384": (12, 384, 12), "12 x 768": (12, 768, 12)}
BUDGETS = (2048, 4096, 8192, 16384, 32768, 65536)
DTYPES = ("bfloat16", "float16", "float32")
SPEC = ModelSpec(name="random", template=Template.pair(), head=Head.classifier(), max_length=512)
Way = Callable[[], list[float]]


def judged(data: Path) -> list[tuple[str, list[str]]]:
    """Queries and documents of TREC DL 2019."""
    found = importlib.util.spec_from_file_location("readers", data / "readers.py")
    assert found is not None
    assert found.loader is not None
    readers = importlib.util.module_from_spec(found)
    found.loader.exec_module(readers)
    return [(query, [text for _, text, _ in hits]) for _, query, hits in readers.trecdl(19)]


def made_up(queries: int, documents: int) -> list[tuple[str, list[str]]]:
    """Texts whose lengths are log-normal, as passages' are; the same in every run."""
    draw = random.Random(0)
    words = ["panda", "bear", "bamboo", "the", "of", "a", "in", "mountains", "eats", "fish", "query", "document"]

    def text(length: int) -> str:
        return " ".join(draw.choice(words) for _ in range(length))

    def document() -> str:
        return text(min(400, max(1, round(draw.lognormvariate(4.0, 0.6)))))

    return [(text(7), [document() for _ in range(documents)]) for _ in range(queries)]


def classifier(layers: int, width: int, heads: int, vocabulary: int) -> Any:
    """A random cross-encoder of XLM-R's architecture."""
    config = AutoConfig.for_model(
        "xlm-roberta",
        vocab_size=vocabulary,
        num_hidden_layers=layers,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
        num_labels=1,
        initializer_range=0.05,  # with the usual 0.02, random scores are all but the same and agree by themselves
    )
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config).eval()


def linears(module: Any) -> list[torch.nn.Linear]:
    """The encoder's linear layers; the head's work is one token a row."""
    return [part for part in module.base_model.encoder.modules() if isinstance(part, torch.nn.Linear)]


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long work takes, with what it left running on the device."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


@torch.inference_mode()
def matmul_peak(module: Any, rows: Sequence[int], times: int) -> float:
    """Best floating-point operations a second of ``torch.matmul`` at the shapes of the module's linear layers."""
    some = next(module.parameters())
    best = 0.0
    for inner, outer in sorted({(layer.in_features, layer.out_features) for layer in linears(module)}):
        for count in rows:
            a = torch.randn(count, inner, device=some.device, dtype=some.dtype)
            b = torch.randn(outer, inner, device=some.device, dtype=some.dtype).T
            work = 2.0 * count * inner * outer

            def several(a: torch.Tensor = a, b: torch.Tensor = b) -> None:
                for _ in range(times):
                    torch.matmul(a, b)

            several()
            best = max(best, *(times * work / seconds(several, some.device) for _ in range(3)))
    return best


def ours(scorer: ClassifierScorer, jobs: Sequence[Job], budget: int, *, one_kernel: bool = True) -> tuple[Way, int]:
    """Scores through the seam under a token budget, and the tokens without padding."""
    plan = RowPlan(scorer, jobs, Rules(longdoc=FirstP(), max_length=512, token_budget=budget), once=False)

    def run() -> list[float]:
        scorer._one_kernel = one_kernel
        scores = [0.0] * len(plan.windows)
        for batch in plan.batches():
            for place, score in zip(batch, plan.forward(batch).scores["score"], strict=True):
                scores[place] = score
        return scores

    return run, sum(window.length for window in plan.windows)


def hugging_face(module: Any, scorer: ClassifierScorer, jobs: Sequence[Job], size: int) -> Way:
    """The same rows through the plain module, sorted by length, in batches of one size."""
    plan = RowPlan(scorer, jobs, Rules(longdoc=FirstP(), max_length=512), once=False)
    rows = [list(plan.row(window).ids) for window in plan.windows]
    order = sorted(range(len(rows)), key=lambda place: -len(rows[place]))

    @torch.inference_mode()
    def run() -> list[float]:
        scores = [0.0] * len(rows)
        for start in range(0, len(order), size):
            places = order[start : start + size]
            width = len(rows[places[0]])
            ids = torch.tensor([rows[place] + [1] * (width - len(rows[place])) for place in places])
            lengths = torch.tensor([len(rows[place]) for place in places])
            mask = (torch.arange(width)[None] < lengths[:, None]).long()
            logits = module(input_ids=ids.to(module.device), attention_mask=mask.to(module.device)).logits
            for place, score in zip(places, logits[:, 0].float().tolist(), strict=True):
                scores[place] = score
        return scores

    return run


def measure(ways: dict[str, Way], device: torch.device, repeats: int) -> dict[str, dict[str, Any]]:
    """Median seconds of each way, in turns; its peak memory above what lay there before; its scores."""
    found: dict[str, dict[str, Any]] = {}
    for name, way in ways.items():
        before = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        scores = way()
        memory = torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else None
        found[name] = {"scores": scores, "memory": memory, "times": []}
    for _ in range(repeats):
        for name, way in ways.items():
            found[name]["times"].append(seconds(way, device))
    return found


def one(shape: str, dtype: str, jobs: Sequence[Job], tokenizer: TextTokenizer, options: Any) -> list[dict[str, Any]]:
    """All ways of one model in one dtype, as rows of the table."""
    device = torch.device(options.device)
    size = max(tokenizer.raw.get_vocab(with_added_tokens=True).values()) + 1
    plain = classifier(*SHAPES[shape], size).to(device, getattr(torch, dtype))
    peak = matmul_peak(plain, options.matmul_rows, options.matmul_times)
    packed = ClassifierScorer(copy.deepcopy(plain), tokenizer, SPEC, pack=True)
    padded = ClassifierScorer(plain, tokenizer, SPEC, pack=False)
    if not packed.packed:
        sys.exit(f"{shape} {dtype}: rows could not be packed on {device}; the trial at load did not agree")

    ways: dict[str, Way] = {f"Hugging Face, {count}": hugging_face(plain, padded, jobs, count) for count in (32, 128)}
    tokens = 0
    for budget in options.budgets:
        ways[f"packed, {budget}"], tokens = ours(packed, jobs, budget)
        ways[f"padded, {budget}"], _ = ours(padded, jobs, budget)
    middle = options.budgets[len(options.budgets) // 2]
    if device.type == "cuda" and dtype != "float32":
        ways[f"packed by length, {middle}"], _ = ours(packed, jobs, middle, one_kernel=False)

    found = measure(ways, device, options.repeats)
    flops = 2.0 * tokens * sum(layer.weight.numel() for layer in linears(plain))
    expected = found["Hugging Face, 32"]["scores"]
    spread = statistics.pstdev(expected)
    return [
        {
            "shape": shape,
            "dtype": dtype,
            "way": name,
            "tokens/s": tokens / (middle_time := statistics.median(each["times"])),
            "of peak": flops / middle_time / peak,
            "peak TFLOP/s": peak / 1e12,
            "memory MiB": None if each["memory"] is None else each["memory"] / 2**20,
            "seconds": each["times"],
            "off": max(abs(a - b) for a, b in zip(each["scores"], expected, strict=True)) / spread,
        }
        for name, each in sorted(found.items(), key=lambda item: statistics.median(item[1]["times"]))
    ]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Rows of one model as lines of the table."""
    for row in rows:
        memory = "-" if row["memory MiB"] is None else f"{row['memory MiB']:.0f}"
        print(
            f"{row['shape']:9} {row['dtype']:9} {row['way']:24} {row['tokens/s']:11,.0f} {row['of peak']:8.2f} "
            f"{row['peak TFLOP/s']:8.2f} {memory:>8} {row['off']:8.1e}",
            flush=True,
        )


def settings() -> Any:
    """The command line; ``--quick`` makes everything small enough for a CPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path, help="write environment and rows here too")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--quick", action="store_true", help="one tiny model, few texts: whether the script runs")
    options = parser.parse_args()
    options.budgets, options.matmul_rows, options.matmul_times = BUDGETS, (4096, 16384, 65536), 10
    if options.quick:
        SHAPES.clear()
        SHAPES["2 x 64"] = (2, 64, 2)
        options.budgets, options.matmul_rows, options.matmul_times = (512, 1024), (256,), 2
        options.repeats, options.dtypes = 1, ["bfloat16", "float32"]
    return options


def main() -> None:
    """Measure, print, and write."""
    options = settings()
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --quick runs a tiny version of everything", file=sys.stderr)
        sys.exit(2)
    data = None if options.quick else os.environ.get("RERANK_DATA")
    texts = judged(Path(data)) if data else made_up(*((2, 6) if options.quick else (43, 100)))
    if data:
        tokenizer = TextTokenizer.from_directory(Path(data) / "tokenizers" / "xlm-roberta", parse_special_tokens=False)
    else:
        tokenizer = TextTokenizer(tiny_tokenizer("xlm-roberta"))
    jobs = [
        Job(query, [Document(text) for text in documents], number) for number, (query, documents) in enumerate(texts)
    ]
    on_gpu = torch.device(options.device).type == "cuda"
    environment = {
        "device": torch.cuda.get_device_name(options.device) if on_gpu else platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": "TREC DL 2019, BM25 top-100" if data else "made up",
        "rows": sum(len(job.documents) for job in jobs),
    }
    print(json.dumps(environment))
    print(
        f"{'shape':9} {'dtype':9} {'way, budget or rows':24} {'tokens/s':>11} {'of peak':>8} {'TFLOP/s':>8} "
        f"{'MiB':>8} {'off':>8}"
    )
    rows: list[dict[str, Any]] = []
    for shape in SHAPES:
        for dtype in options.dtypes:
            rows += (some := one(shape, dtype, jobs, tokenizer, options))
            show(some)
    if options.json:
        options.json.write_text(json.dumps({"environment": environment, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
