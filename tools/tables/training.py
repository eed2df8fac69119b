"""Tables of docs/training.md (settings, objectives) and of docs/training-results.md."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rerank_core.measures import paired
from rerank_trainers.config import schema
from rerank_trainers.objectives.registry import OBJECTIVES

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "fine_tuning.json"


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]], right: int = 0) -> str:
    """A Markdown table; the last ``right`` columns are right-aligned."""
    marks = ["---"] * (len(titles) - right) + ["--:"] * right
    lines = [titles, marks, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def settings() -> str:
    """Every setting with its default and its description, taken from the docstrings of config/schema.py."""
    rows = []
    for part in dataclasses.fields(schema.Config):
        kind: Any = getattr(schema, {"data": "DataConfig", "model": "ModelConfig", "train": "TrainConfig",
                                     "publish": "PublishConfig"}.get(part.name, "ObjectiveConfig"))  # fmt: skip
        if kind is schema.ObjectiveConfig:
            rows.append(
                (
                    "`objective`",
                    "`bce`",
                    "objective, or a list of them (`name`, `weight`, `options`, `temperature`), summed by weight.",
                )
            )
            continue
        descriptions = _attributes(kind)
        rows += [
            (f"`{part.name}.{item.name}`", _default(item), descriptions.get(item.name, ""))
            for item in dataclasses.fields(kind)
        ]
        if kind is schema.ModelConfig:
            descriptions = _attributes(schema.LoraOptions)
            rows += [
                (f"`model.lora.{item.name}`", _default(item), descriptions.get(item.name, ""))
                for item in dataclasses.fields(schema.LoraOptions)
            ]
    return table(("setting", "default", "meaning"), rows)


def _default(item: Any) -> str:
    value = item.default if item.default is not dataclasses.MISSING else item.default_factory()
    return "" if value in (None, "", (), {}) else f"`{json.dumps(value)}`"


def _attributes(kind: type) -> dict[str, str]:
    """The descriptions in a docstring's ``Attributes`` by name; names on one line share the description."""
    _, _, attributes = (kind.__doc__ or "").partition("Attributes:")
    descriptions: dict[str, str] = {}
    for entry in re.split(r"\n {8}(?=\w[\w, ]*: )", attributes.strip("\n").replace("\n            ", " ")):
        names, _, text = entry.strip().partition(": ")
        for name in names.split(", "):
            descriptions[name.strip()] = text.strip().replace("``", "`")
    return descriptions


def objectives() -> str:
    """Every objective with the targets it reads, its formula and its options."""
    rows = []
    for name, kind in OBJECTIVES.items():
        objective = kind()
        needs = [
            word
            for word, needed in (
                ("labels", objective.needs.labels),
                ("a teacher's scores", objective.needs.scores),
                ("all texts of a step", objective.needs.step),
                ("a teacher's vectors", objective.needs.teacher_vectors),
            )
            if needed
        ]
        if any(item.type == "Target" for item in dataclasses.fields(kind)):
            needs[0] = "labels or a teacher's scores" if objective.needs.step else "labels or a teacher's order"
        first = (kind.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
        options = ", ".join(f"`{item.name}`" for item in dataclasses.fields(kind))
        rows.append((f"`{name}`", " and ".join(needs), first.replace("``", "`"), options))
    return table(("name", "reads", "loss", "options"), rows)


def fine_tuning(part: str) -> str:
    """Results of fine-tuning: mean and standard deviation over seeds, and the paired difference from the baseline."""
    results: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, result in results.items():
        experiment, seeded, _ = name.partition(" seed ")
        if seeded and experiment.startswith(part):
            for test, measures in result["tests"].items():
                runs.setdefault((test, experiment), []).append(measures)
    rows = []
    for test in dict.fromkeys(test for test, _ in runs):
        rows += [
            (test, base, *_means([baseline_run["tests"][test]]), "")
            for base in ("chance", "bm25", "mini")
            if (baseline_run := results.get(f"{base} on {test}")) is not None
        ]
        baseline = results.get(f"mini on {test}") or results.get(f"bm25 on {test}")
        before = baseline["tests"][test]["ndcg"] if baseline else []
        rows += [
            (test, experiment.partition(" ")[2], *_means(seeds), _difference(before, seeds))
            for (name, experiment), seeds in runs.items()
            if name == test
        ]
    return table(("test set", "trained with", "nDCG@10", "AP", "RR@10", "nDCG@10, difference"), rows, right=4)


def _means(seeds: list[dict[str, Any]]) -> list[str]:
    columns = [[run["means"][measure] for run in seeds] for measure in ("nDCG@10", "AP", "RR@10")]
    return [f"{mean(column):.4f}" + (f" ± {stdev(column):.4f}" if len(column) > 1 else "") for column in columns]


def _difference(before: list[float], seeds: list[dict[str, Any]]) -> str:
    """The paired difference of the per-query means over seeds from the baseline, with its 95 % confidence interval."""
    if not before:
        return ""
    after = [mean(values) for values in zip(*(run["ndcg"] for run in seeds), strict=True)]
    difference = paired(before, after)
    return f"{difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
