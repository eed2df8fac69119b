"""Generated text for the documents: the model table and the help pages (cog calls this; `make fix` writes it)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import rerank_core
from rerank_core.plugins import registry

# What has been shown for each model so far, and what waits for weights that cannot be had where this is developed.
PROOF = json.loads((Path(__file__).parent / "proof.json").read_text(encoding="utf-8"))


def models(*, chinese: bool = False) -> str:
    """A Markdown table of every first-party model, with what is proven of it."""
    language = "zh" if chinese else "en"
    titles = {
        "en": ("name", "installed by", "kind", "languages", "tokens a row", "licence", "proven so far"),
        "zh": ("名字", "安装包", "类型", "语言", "每行词元", "许可证", "目前已验证"),
    }[language]
    rows = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    for spec in rerank_core.models():
        plugin = registry.default().plugin_of(spec)
        head = spec.head.kind if spec.head else "LLM, listwise" if spec.raw_space == "rank" else "text"
        kind = {
            "classifier": "cross-encoder",
            "maxsim": "late interaction",
            "last_token": "LLM, yes or no",
            "layers": "LLM, by layer",
        }.get(head, head)
        cells = (
            f"`{spec.name}`",
            f"`{plugin.distribution}`" if plugin else "",
            kind,
            ", ".join(spec.languages),
            str(spec.max_length) if spec.head else "",
            spec.license,
            PROOF[spec.name][language],
        )
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def help_page(*command: str) -> str:
    """What ``rerank COMMAND --help`` prints, 100 columns wide and without colour."""
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    arguments = [sys.executable, "-m", "rerank_core", *command, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    text = done.stdout.replace("python -m rerank_core", "rerank")
    return "```text\n" + "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n```"
