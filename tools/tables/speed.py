"""Tables of timings for the documents, from benchmarks/results (cog calls this; `make fix` writes the tables)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["late", "llm", "speed", "training"]

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "cpu.json"
LLM = RESULTS.with_name("llm.json")
FAMILIES = RESULTS.with_name("families.json")
LATE = RESULTS.with_name("late.json")
TRAINING = RESULTS.with_name("training.json")
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
