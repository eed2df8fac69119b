"""Tables of benchmarks/gpu.py's results for the documents: a GPU, and workers on the cores of its machine.

Cog calls this; `make fix` writes the tables.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GpuTiming", "gpu", "gpu_timings", "scaling"]

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "gpu.json"
DTYPE = "bfloat16"
ON_GPU = {
    "en": ("shape", "our tokens/s", "of the peak", "Hugging Face", "sentence-transformers"),
    "zh": ("形状", "我们的词元/秒", "占峰值", "Hugging Face", "sentence-transformers"),
}


@dataclass(frozen=True)
class GpuTiming:
    """Our fastest batch of one shape, and the fastest of the others.

    Attributes:
        tokens_per_second: of ours, from token ids on.
        share_of_peak: of the rate of matrix products that the same run measured.
        hugging_face: how many times as long careful Hugging Face code takes, from token ids on.
        sentence_transformers: how many times as long sentence-transformers takes, from texts on; None if not measured.
    """

    tokens_per_second: float
    share_of_peak: float
    hugging_face: float
    sentence_transformers: float | None


def gpu_timings(file: Path = GPU) -> dict[str, GpuTiming]:
    """A timing for each shape, in bfloat16."""
    shapes: dict[str, list[tuple[str, float, float]]] = {}
    for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
        if row["dtype"] == DTYPE:
            shapes.setdefault(row["shape"], []).append((row["way"], row["tokens/s"], row["of peak"]))
    timings = {}
    for shape, ways in shapes.items():
        (ours, share), (other, _) = _fastest(ways, "packed, "), _fastest(ways, "Hugging Face")
        (from_texts, _), (peer, _) = _fastest(ways, "from texts"), _fastest(ways, "sentence-transformers")
        timings[shape] = GpuTiming(ours, share, ours / other, from_texts / peer if peer else None)
    return timings


def _fastest(ways: list[tuple[str, float, float]], start: str) -> tuple[float, float]:
    """Tokens per second and share of the peak of the fastest way whose name begins with ``start``."""
    return max(((speed, share) for way, speed, share in ways if way.startswith(start)), default=(0.0, 0.0))


def gpu(file: Path = GPU, *, chinese: bool = False) -> str:
    """A row for each shape: our fastest batch, its share of the matrix-product peak, and how many times as long the
    fastest batch of the others takes; sentence-transformers' is compared with ours from texts on."""
    if not file.exists():
        return ""
    rows = ["| " + " | ".join(ON_GPU["zh" if chinese else "en"]) + " |", "|---|--:|--:|--:|--:|"]
    for shape, timing in gpu_timings(file).items():
        peer = timing.sentence_transformers
        figures = (f"{timing.tokens_per_second:,.0f}", f"{timing.share_of_peak:.0%}", f"{timing.hugging_face:.2f}")
        row = [shape.replace("x", "×"), *figures, "" if peer is None else f"{peer:.2f}"]
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows).replace("%", " %")


ON_CPU = {
    "en": ("workers", "tokens/s", "as many processes of one thread", "share"),
    "zh": ("工作线程", "词元/秒", "同样多的单线程进程", "比例"),
}


def scaling(file: Path = GPU, *, chinese: bool = False) -> str:
    """A row for each number of workers on the CPU, beside as many processes of one thread; empty if not measured."""
    items = json.loads(file.read_text(encoding="utf-8")).get("scaling", []) if file.exists() else []
    if not items:
        return ""
    rows = ["| " + " | ".join(ON_CPU["zh" if chinese else "en"]) + " |", "|--:|--:|--:|--:|"]
    for item in items:
        figures = (item["workers"], f"{item['tokens/s']:,}", f"{item['processes tokens/s']:,}", item["of processes"])
        rows.append("| {} | {} | {} | {:.2f} |".format(*figures))
    return "\n".join(rows)
