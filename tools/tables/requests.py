"""Tables of small requests, alone and beside a busy process, and of loading, from benchmarks/results/cpu.json.

Cog calls this; `make fix` writes the tables.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["loading", "small_requests"]

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "cpu.json"
ENGINES = {
    "ours": {"en": "ours", "zh": "我们的"},
    "ours-int8": {"en": "our int8", "zh": "我们的 int8"},
    "sentence-transformers": {"en": "sentence-transformers", "zh": "sentence-transformers"},
    "onnx-runtime": {"en": "ONNX Runtime", "zh": "ONNX Runtime"},
    "onnx-runtime-int8": {"en": "its int8", "zh": "其 int8"},
    "openvino": {"en": "OpenVINO", "zh": "OpenVINO"},
}
DOCUMENTS = {"dl19-1": 1, "dl19-10": 10, "dl19": 100}
WORDS = {
    "en": {"model": "model", "documents": "documents", "busy": "beside a busy process", "load": "load",
           "first": "first score after loading", "peak": "peak memory, 1 document",
           "most": "peak memory, 100 documents"},
    "zh": {"model": "模型", "documents": "文档数", "busy": "旁有繁忙进程", "load": "加载", "first": "加载后的首个分数",
           "peak": "峰值内存，1 篇文档", "most": "峰值内存，100 篇文档"},
}  # fmt: skip


def small_requests(file: Path = RESULTS, *, chinese: bool = False) -> str:
    """Two rows for each shape and number of documents of one query: times alone, and times beside a busy process with
    the slowdown. Empty where none was measured."""
    language = "zh" if chinese else "en"
    words = WORDS[language]
    rows = []
    for cell in sorted(_cells(file), key=lambda cell: (cell["shape"], DOCUMENTS.get(cell["workload"], 0))):
        count = DOCUMENTS.get(cell["workload"])
        if count is None or "slowdown" not in cell["engines"]["ours"]:
            continue
        shape, figures = cell["shape"].replace("x", " × "), [cell["engines"].get(name, {}) for name in ENGINES]
        rows.append([shape, f"{count}", *(_time(each.get("seconds")) for each in figures)])
        busy = [
            f"{_time(each['busy_seconds'])}, {each['slowdown']:.1f} ×" if "slowdown" in each else "" for each in figures
        ]
        rows.append(["", words["busy"], *busy])
    return _table([words["model"], words["documents"]], rows, language)


def loading(file: Path = RESULTS, *, chinese: bool = False) -> str:
    """For each shape the time to load, the time of the first score, and the peak memory of the process."""
    language = "zh" if chinese else "en"
    words = WORDS[language]
    cells = {(cell["shape"], cell["workload"]): cell["engines"] for cell in _cells(file)}
    rows = []
    for (shape, workload), engines in cells.items():
        if workload != "load":
            continue
        figures = [engines.get(name, {}) for name in ENGINES]
        many = [cells.get((shape, "dl19"), {}).get(name, {}) for name in ENGINES]
        lines = {
            "load": [_time(each.get("seconds")) for each in figures],
            "first": [_time(each.get("first")) for each in figures],
            "peak": [_megabytes(each.get("peak_mb")) for each in figures],
            # An engine's process has scored one document and ten before the hundred.
            "most": [_megabytes(each.get("peak_mb")) if "slowdown" in each else "" for each in many],
        }
        rows += [[shape.replace("x", " × "), words[key], *line] for key, line in lines.items()]
    return _table([words["model"], ""], rows, language)


def _cells(file: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["cells"] if file.exists() else []
    return cells


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count:,} MB"


def _table(titles: list[str], rows: list[list[str]], language: str) -> str:
    if not rows:
        return ""
    head = [*titles, *(names[language] for names in ENGINES.values())]
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "--:|" * len(ENGINES)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
