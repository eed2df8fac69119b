"""Draws the bar chart of the README from benchmarks/results: the times of other libraries relative to rerank-core.

    python tools/speed_chart.py            # writes docs/images/speed.svg; needs requirements-docs.txt

`make pictures` runs it. tests/test_docs.py compares the numbers in the picture with the results. The SVG
holds its text as text and not as outlines, so the test needs no matplotlib.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables.gpu import gpu_timings

__all__ = ["PICTURE", "Panel", "draw", "panel", "panels", "texts"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "images" / "speed.svg"

OURS = "rerank-core"
NAMES = {
    "flagembedding": "FlagEmbedding",
    "rag-retrieval": "RAG-Retrieval",
    "bcembedding": "BCEmbedding",
    "rerankers": "rerankers",
    "sentence-transformers": "sentence-transformers",
    "pylate": "PyLate",
    "transformers": "transformers, by hand",
    "onnx-runtime": "ONNX Runtime",
    "openvino": "OpenVINO",
}

_TOLERANCE = 1e-4
"""Largest difference from our scores (relative for scores above 1) at which a library's scores count as equal."""


@dataclass(frozen=True)
class Panel:
    """One group of bars: a title, and for each library its time divided by ours, slowest first."""

    title: str
    bars: tuple[tuple[str, float], ...]


def panels() -> list[Panel]:
    """The groups of the chart, read from benchmarks/results."""
    cells = {(cell["shape"], cell["workload"]): cell["engines"] for cell in _read("cpu.json")["cells"]}
    causal = {(cell["shape"], cell["workload"]): cell["engines"] for cell in _read("llm.json")["cells"]}
    late = _read("late.json")["engines"]
    few = cells.get(("12x384", "dl19-10"), {})
    return [
        panel("Cross-encoder, 12 layers of 384, CPU, one query and 100 English passages", cells["12x384", "dl19"]),
        *([panel("The same, one query and 10 passages", few),
           panel("The same, beside a process that keeps a core busy", few, key="busy_ratio")] if few else []),
        panel("LLM reranker, Qwen3 of 8 layers, CPU, one query and 100 English passages",
               causal["qwen3-8x512", "dl19"]),
        panel("LLM reranker, Gemma of 18 layers, CPU, one query and 100 English passages",
               causal["gemma-18x256", "dl19"]),
        panel("Late interaction, CPU, a query over 1,000 encoded passages", late, key="later_ratio"),
        panel("LLM reranker, Qwen3 of 0.6B parameters, H200 in bfloat16, English passages", _on_gpu("Qwen3 0.6B")),
    ]  # fmt: skip


def texts(groups: list[Panel]) -> list[str]:
    """Every text of the picture, from top to bottom."""
    return [
        text
        for group in groups
        for text in (group.title, *(part for name, ratio in group.bars for part in (name, label(ratio))))
    ]


def label(ratio: float) -> str:
    """The number beside a bar."""
    return f"{ratio:.1f} ×" if ratio >= 3 else f"{ratio:.2f} ×"


def draw(groups: list[Panel], path: Path = PICTURE) -> None:
    """Write the chart as SVG: the same bytes for the same numbers and the same matplotlib."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": "rerank-core", "font.family": "sans-serif", "font.size": 10}
    )
    from matplotlib.figure import Figure

    height = sum(len(group.bars) + 1.7 for group in groups)
    figure = Figure(figsize=(8.2, 0.2 * height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    widest = max(ratio for group in groups for _, ratio in group.bars)
    axes.set_xlim(-0.33 * widest, 1.12 * widest)
    axes.set_ylim(-height, 0)
    line = 0.0
    for group in groups:
        line -= 1.1
        axes.text(-0.32 * widest, line, group.title, va="center", weight="bold", color="#24292f")
        for name, ratio in group.bars:
            line -= 1
            ours = name == OURS
            axes.barh(line, ratio, height=0.72, color="#1f883d" if ours else "#9aa4af")
            weight = "bold" if ours else "normal"
            axes.text(-0.008 * widest, line, name, va="center", ha="right", weight=weight, color="#24292f")
            axes.text(ratio + 0.01 * widest, line, label(ratio), va="center", weight=weight, color="#24292f")
        line -= 0.6
    path.parent.mkdir(parents=True, exist_ok=True)
    title = "How many times as long other libraries take for the same scores"
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Title": title})
    # matplotlib leaves blanks at the ends of lines.
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(text.rstrip() for text in lines) + "\n", encoding="utf-8")


def _read(name: str) -> dict[str, Any]:
    return dict(json.loads((RESULTS / name).read_text(encoding="utf-8")))


def _on_gpu(shape: str) -> dict[str, dict[str, Any]]:
    timing = gpu_timings()[shape]
    ratios = {"transformers": timing.hugging_face, "sentence-transformers": timing.sentence_transformers}
    return {name: {"ratio": ratio} for name, ratio in ratios.items() if ratio is not None}


def panel(title: str, engines: dict[str, dict[str, Any]], key: str = "ratio") -> Panel:
    """The bars of the engines whose scores equal ours, and our own bar."""
    bars = [
        (NAMES[name], float(figures[key]))
        for name, figures in engines.items()
        if name in NAMES and key in figures and (figures.get("drift") or 0) < _TOLERANCE
    ]
    return Panel(title, (*sorted(bars, key=lambda bar: -bar[1]), (OURS, 1.0)))


if __name__ == "__main__":
    draw(panels())
