"""Tables of timings for the documents, from benchmarks/results (cog calls this; `make fix` writes the tables)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["GpuTiming", "gpu", "gpu_timings", "late", "llm", "speed", "training"]

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "cpu.json"
LLM = RESULTS.with_name("llm.json")
FAMILIES = RESULTS.with_name("families.json")
LATE = RESULTS.with_name("late.json")
TRAINING = RESULTS.with_name("training.json")
GPU = RESULTS.with_name("gpu.json")
NAMES = {
    "sentence-transformers": "sentence-transformers",
    "flagembedding": "FlagEmbedding",
    "rag-retrieval": "RAG-Retrieval",
    "bcembedding": "BCEmbedding",
    "rerankers": "rerankers",
    "onnx-runtime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
WORDS = {
    "en": ("model", "texts", "our tokens/s", "of the limit"),
    "zh": ("模型", "文本", "我们的词元/秒", "占上限"),
}
TEXTS = {
    "en": {
        "dl19": "DL19, 1 query × 100",
        "t2rank": "T2Ranking, 1 × 100, mixed",
        "t2rank-sample": "T2Ranking, 1 × 40, mixed",
        "dl19-20x50": "DL19, 20 × 50",
    },
    "zh": {
        "dl19": "DL19，1 个查询 × 100",
        "t2rank": "T2Ranking，1 × 100，长短混合",
        "t2rank-sample": "T2Ranking，1 × 40，长短混合",
        "dl19-20x50": "DL19，20 × 50",
    },
}


# Differences of scores, relative to those above 1, that are rounding.
_ROUNDING = 1e-5


def _cell(figures: dict[str, Any]) -> str:
    """How many times as long another takes; a star where its scores are not ours."""
    ratio = figures.get("ratio")
    if ratio is None:
        return ""
    return (f"{ratio:.1f}" if ratio >= 3 else f"{ratio:.2f}") + ("*" if (figures["drift"] or 0) > _ROUNDING else "")


def speed(file: Path = RESULTS, *, chinese: bool = False) -> str:
    """A row for each shape and workload: our speed, and how many times as long the others take."""
    if not file.exists():
        return ""
    language = "zh" if chinese else "en"
    cells = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["workload"] in TEXTS["en"]]
    engines = [name for name in NAMES if any("ratio" in cell["engines"].get(name, {}) for cell in cells)]
    titles = [*WORDS[language], *(NAMES[name] for name in engines)]
    rows = ["| " + " | ".join(titles) + " |", "|---|---|" + "--:|" * (len(titles) - 2)]
    for cell in cells:
        share = cell["share_of_limit"]
        figures = [
            cell["shape"].replace("x", " × "),
            TEXTS[language][cell["workload"]],
            f"{cell['engines']['ours']['tokens_per_second']:,}",
            "" if share is None else f"{share:.0%}".replace("%", " %"),
            *(_cell(cell["engines"].get(name, {})) for name in engines),
        ]
        rows.append("| " + " | ".join(figures) + " |")
    return "\n".join(rows)


SHAPES = {
    "en": {
        "qwen3-8x512": "Qwen3, 8 × 512, Qwen3-Reranker's template",
        "gemma-18x256": "Gemma, 18 × 256, BGE's template",
        "modernbert-mean": "ModernBERT classifier, 8 × 512, mean of all tokens",
        "qwen3-classifier": "Qwen3 classifier, 8 × 512, chat template",
    },
    "zh": {
        "qwen3-8x512": "Qwen3，8 × 512，Qwen3-Reranker 模板",
        "gemma-18x256": "Gemma，18 × 256，BGE 模板",
        "modernbert-mean": "ModernBERT 分类器，8 × 512，取所有词元的平均",
        "qwen3-classifier": "Qwen3 分类器，8 × 512，对话模板",
    },
}
PEERS = {
    "sentence-transformers": "sentence-transformers",
    "flagembedding": "FlagEmbedding",
    "transformers": "transformers",
}


def llm(files: Sequence[Path] = (LLM, FAMILIES), *, chinese: bool = False) -> str:
    """A row for each causal shape, and for other families of classifiers: how many times as long the others take."""
    language = "zh" if chinese else "en"
    cells = [cell for file in files if file.exists() for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]]
    rows = ["| " + " | ".join([*WORDS[language][:2], *PEERS.values()]) + " |", "|---|---|" + "--:|" * len(PEERS)]
    for cell in cells:
        ratios = [cell["engines"].get(name, {}).get("ratio") for name in PEERS]
        figures = ["" if ratio is None else f"{ratio:.1f}" if ratio >= 3 else f"{ratio:.2f}" for ratio in ratios]
        row = [SHAPES[language][cell["shape"]], TEXTS[language][cell["workload"]], *figures]
        rows.append("| " + " | ".join(row) + " |")
    return "\n".join(rows)


QUERIES = {
    "en": {"first": "first query, documents encoded", "later": "a later query"},
    "zh": {"first": "首个查询（含编码文档）", "later": "之后的查询"},
}
PARTS = {
    "en": {"query": "part: encode the query", "maxsim": "part: MaxSim", "product": "part of MaxSim: product"},
    "zh": {"query": "其中：编码查询", "maxsim": "其中：MaxSim", "product": "其中：MaxSim 的矩阵乘法"},
}


def late(file: Path = LATE, *, chinese: bool = False) -> str:
    """How long a first and a later query take, how many times as long others take, and what a later one's parts are."""
    if not file.exists():
        return ""
    language = "zh" if chinese else "en"
    results = json.loads(file.read_text(encoding="utf-8"))
    engines = results["engines"]
    others = {"sentence-transformers": "sentence-transformers", "pylate": "PyLate"}
    cross = {"en": "our cross-encoder of this shape", "zh": "同形状的交叉编码器（我们的）"}[language]
    rows = [
        "| | " + " | ".join([{"en": "ours", "zh": "我们的"}[language], *others.values(), cross]) + " |",
        "|---|" + "--:|" * (len(others) + 2),
    ]
    for key, title in QUERIES[language].items():
        seconds = engines["ours"][key]
        own = f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
        ratios = [engines[name][f"{key}_ratio"] for name in others]
        ratio_cells = [f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}" for ratio in ratios]
        cross_encoder_cell = "" if key == "first" else f"{engines['cross-encoder']['later_ratio']:.0f}"
        if key == "first" and (share := results.get("first_share_of_limit")):
            own += {"en": f", {share:.0%} of the limit", "zh": f"，上限的 {share:.0%}"}[language].replace("%", " %")
        rows.append("| " + " | ".join([title, own, *ratio_cells, cross_encoder_cell]) + " |")
    for key, title in PARTS[language].items():
        spent = results["milliseconds"][key] / 1000
        own = f"{1000 * spent:.1f} ms, {spent / engines['ours']['later']:.0%}".replace("%", " %")
        rows.append("| " + " | ".join([title, own, *[""] * (len(others) + 1)]) + " |")
    return "\n".join(rows)


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
    """A timing for each shape."""
    shapes: dict[str, list[tuple[str, float, float]]] = {}
    for row in json.loads(file.read_text(encoding="utf-8"))["rows"]:
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


TRAINED = {
    "en": {
        "6x384/wikiqa": "BERT, 6 × 384, WikiQA, 8 queries × 8 a step",
        "12x384/t2rank": "BERT, 12 × 384, T2Ranking, 2 queries × 8 a step",
        "titles": ("model and data", "our tokens/s", "FlagEmbedding", "sentence-transformers, ListNet", "and BCE",
                   "ours, rows padded"),
    },
    "zh": {
        "6x384/wikiqa": "BERT，6 × 384，WikiQA，每步 8 个查询 × 8 篇",
        "12x384/t2rank": "BERT，12 × 384，T2Ranking，每步 2 个查询 × 8 篇",
        "titles": ("模型与数据", "我们的词元/秒", "FlagEmbedding", "sentence-transformers，ListNet", "同上，BCE",
                   "我们的，带填充"),
    },
}  # fmt: skip
TRAINERS = ("flagembedding", "sentence-transformers", "sentence-transformers-bce", "ours-padded")


def training(file: Path = TRAINING, *, chinese: bool = False) -> str:
    """A row for each model and data: tokens that we train on in a second, and how many times as long others take."""
    if not file.exists():
        return ""
    words = TRAINED["zh" if chinese else "en"]
    rows = ["| " + " | ".join(words["titles"]) + " |", "|---|" + "--:|" * (len(TRAINERS) + 1)]
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        engines = cell["engines"]
        ratios = [engines.get(name, {}).get("ratio") for name in TRAINERS]
        figures = ["" if ratio is None else f"{ratio:.1f}" if ratio >= 3 else f"{ratio:.2f}" for ratio in ratios]
        name = str(words[f"{cell['shape']}/{cell['workload']}"])
        rows.append("| " + " | ".join([name, f"{engines['ours']['tokens_per_second']:,}", *figures]) + " |")
    return "\n".join(rows)
