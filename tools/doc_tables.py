"""Generated text for the documents: tables of models, and the help pages (cog calls this; `make fix` writes it)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import rerank_core
from rerank_core import ModelSpec
from rerank_core.cli.model_filters import size_text
from rerank_core.plugins import registry
from rerank_core.spec.hub_or_folder import is_hub_id
from rerank_core.spec.license import is_non_commercial

# How each model is tested: a level (docs/proof.md defines the levels) and a sentence, or the name of a model with the
# same level and sentence.
PROOF: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "proof.json").read_text(encoding="utf-8"))
TITLES = {
    "en": ("models", "package", "kind", "languages", "licence", "tested"),
    "zh": ("模型", "安装包", "类型", "语言", "许可证", "验证"),
}
KINDS = {
    "en": {"classifier": "cross-encoder", "dense": "cross-encoder", "maxsim": "late interaction", "cosine": "embedding",
           "last_token": "LLM, yes or no", "layers": "LLM, by layer", "listwise": "LLM, listwise",
           "encoder-decoder": "encoder-decoder"},
    "zh": {"classifier": "交叉编码器", "dense": "交叉编码器", "maxsim": "延迟交互", "cosine": "向量",
           "last_token": "LLM，答是或否", "layers": "LLM，逐层打分", "listwise": "LLM，列表式",
           "encoder-decoder": "编码器-解码器"},
}  # fmt: skip


def families(*, chinese: bool = False) -> str:
    """A Markdown table of the first-party models, with a row for those of a package that are of one kind and tested
    alike."""
    language = "zh" if chinese else "en"
    groups: dict[tuple[str, str, int], list[ModelSpec]] = {}
    for spec in sorted(rerank_core.models(), key=_package):
        groups.setdefault((_package(spec), _kind(spec, language), proof_of(spec.name)["level"]), []).append(spec)
    rows = []
    for (package, kind, level), specs in groups.items():
        names = ", ".join(f"`{spec.name}`" for spec in specs)
        languages = "; ".join(dict.fromkeys(_languages(spec, language) for spec in specs))
        licenses = "; ".join(dict.fromkeys(spec.license for spec in specs))
        rows.append((names, f"`{package}`", kind, languages, licenses, "✓" * level))
    return _table(TITLES[language], rows)


def models() -> str:
    """A Markdown table of every first-party model and its facts."""
    rows = [
        (
            f"`{spec.name}`",
            f"`{spec.checkpoint}`" if is_hub_id(spec.checkpoint) else "",
            _kind(spec, "en"),
            size_text(spec.parameters),
            _languages(spec, "en"),
            str(spec.max_length) if spec.head else "",
            f"{spec.license} (non-commercial)" if is_non_commercial(spec.license) else spec.license,
            "✓" * proof_of(spec.name)["level"],
        )
        for spec in rerank_core.models()
    ]
    return _table(("name", "hub id", "kind", "size", "languages", "tokens per row", "licence", "tested"), rows)


def package_models(package: str) -> str:
    """A Markdown table of the models that one distribution brings, for its own README; models that are described alike
    share a row."""
    groups: dict[tuple[str, str], list[ModelSpec]] = {}
    for spec in rerank_core.models():
        if _package(spec) == package:
            groups.setdefault((spec.description, spec.license), []).append(spec)
    rows = []
    for words, specs in groups.items():
        specs.sort(key=lambda spec: spec.parameters or 0)
        checkpoints = ", ".join(f"`{spec.checkpoint}`" for spec in specs if spec.head)
        rows.append((", ".join(f"`{spec.name}`" for spec in specs), checkpoints, *words))
    return _table(("name", "checkpoint", "", "licence of the model"), rows)


def proof(*, chinese: bool = False) -> str:
    """A Markdown table of every first-party model, with the level of its tests and what they compare."""
    language = "zh" if chinese else "en"
    names_of: dict[str, list[str]] = {}
    for spec in rerank_core.models():
        names_of.setdefault(PROOF[spec.name].get("as", spec.name), []).append(f"`{spec.name}`")
    rows = [
        (", ".join(names), "✓" * PROOF[first]["level"], PROOF[first][language]) for first, names in names_of.items()
    ]
    return _table({"en": ("model", "level", "tested"), "zh": ("模型", "级别", "验证内容")}[language], rows)


def proof_of(name: str) -> dict[str, Any]:
    """The level of a model's tests and the sentence about them; of another model where the entry refers to one."""
    entry = PROOF[name]
    return PROOF[entry["as"]] if "as" in entry else entry


def help_page(*command: str) -> str:
    """The output of ``rerank COMMAND --help``, 100 columns wide and without colour."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    arguments = [sys.executable, "-m", "rerank_core", *command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    text = done.stdout.replace("python -m rerank_core", "rerank")
    return "```text\n" + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n```"


def _package(spec: ModelSpec) -> str:
    plugin = registry.default().plugin_of(spec)
    return str(plugin.distribution) if plugin else ""


def _kind(spec: ModelSpec, language: str) -> str:
    kind = spec.head.kind if spec.head else "listwise" if spec.raw_space == "rank" else "text"
    if _package(spec) == "rerank-t5":
        kind = "encoder-decoder"
    return KINDS[language].get(kind, kind)


def _languages(spec: ModelSpec, language: str) -> str:
    text = ", ".join(spec.languages)
    return text.replace("multilingual", "多语言") if language == "zh" else text


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    return "\n".join([*lines, *("| " + " | ".join(cells) + " |" for cells in rows)])
