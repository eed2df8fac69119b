"""Generated tables of docs/training.md: settings and objectives from the code, results from benchmarks/results."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rerank_trainers.config import schema
from rerank_trainers.evaluation.intervals import paired
from rerank_trainers.objectives.registry import OBJECTIVES

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results" / "fine_tuning.json"


def table(titles: tuple[str, ...], rows: list[tuple[str, ...]], right: int = 0) -> str:
    """A Markdown table; the last ``right`` columns are numbers."""
    marks = ["---"] * (len(titles) - right) + ["--:"] * right
    lines = [titles, marks, *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def settings() -> str:
    """Every setting with its default and what its docstring says."""
    rows = []
    for part in dataclasses.fields(schema.Config):
        kind: Any = getattr(schema, {"data": "DataConfig", "model": "ModelConfig", "train": "TrainConfig",
                                     "publish": "PublishConfig"}.get(part.name, "ObjectiveConfig"))  # fmt: skip
        if kind is schema.ObjectiveConfig:
            rows.append(("`objective`", "`bce`", "a name, or several with `weight` and `options`; see below"))
            continue
        told = _attributes(kind)
        rows += [
            (f"`{part.name}.{item.name}`", _default(item), told.get(item.name, "")) for item in dataclasses.fields(kind)
        ]
        if kind is schema.ModelConfig:
            told = _attributes(schema.LoraOptions)
            rows += [
                (f"`model.lora.{item.name}`", _default(item), told.get(item.name, ""))
                for item in dataclasses.fields(schema.LoraOptions)
            ]
    return table(("setting", "default", ""), rows)


def _default(item: Any) -> str:
    value = item.default if item.default is not dataclasses.MISSING else item.default_factory()
    return "" if value in (None, "", (), {}) else f"`{json.dumps(value)}`"


def _attributes(kind: type) -> dict[str, str]:
    """Name to text of a docstring's ``Attributes``; names that stand together share it."""
    _, _, told = (kind.__doc__ or "").partition("Attributes:")
    found: dict[str, str] = {}
    for entry in re.split(r"\n {8}(?=\w[\w, ]*: )", told.strip("\n").replace("\n            ", " ")):
        names, _, text = entry.strip().partition(": ")
        for name in names.split(", "):
            found[name.strip()] = text.strip().replace("``", "`")
    return found


def objectives() -> str:
    """Every objective with what it needs and its options."""
    rows = []
    for name, kind in OBJECTIVES.items():
        made = kind()
        needs = [
            word
            for word, needed in (("labels", made.needs.labels), ("a teacher's scores", made.needs.scores))
            if needed
        ]
        if any(item.type == "Target" for item in dataclasses.fields(kind)):
            needs = ["labels or a teacher's order"]
        first = (kind.__doc__ or "").strip().splitlines()[0].replace("|", "\\|")
        options = ", ".join(f"`{item.name}`" for item in dataclasses.fields(kind))
        rows.append((f"`{name}`", " and ".join(needs), first.replace("``", "`"), options))
    return table(("name", "needs", "", "options"), rows)


def fine_tuning(part: str) -> str:
    """What fine-tuning gave: mean and deviation over seeds, and the paired difference from the starting point."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for name, result in found.items():
        experiment, seeded, _ = name.partition(" seed ")
        if seeded and experiment.startswith(part):
            for test, measured in result["tests"].items():
                runs.setdefault((test, experiment), []).append(measured)
    rows = []
    for test in dict.fromkeys(test for test, _ in runs):
        rows += [
            (test, base, *_means([known["tests"][test]]), "")
            for base in ("chance", "bm25", "mini")
            if (known := found.get(f"{base} on {test}")) is not None
        ]
        against = found.get(f"mini on {test}") or found.get(f"bm25 on {test}")
        before = against["tests"][test]["ndcg"] if against else []
        rows += [
            (test, experiment.partition(" ")[2], *_means(seeds), _difference(before, seeds))
            for (own, experiment), seeds in runs.items()
            if own == test
        ]
    return table(("test set", "trained with", "nDCG@10", "AP", "RR@10", "nDCG@10, difference"), rows, right=4)


def _means(seeds: list[dict[str, Any]]) -> list[str]:
    columns = [[one["means"][measure] for one in seeds] for measure in ("nDCG@10", "AP", "RR@10")]
    return [f"{mean(own):.4f}" + (f" ± {stdev(own):.4f}" if len(own) > 1 else "") for own in columns]


def _difference(before: list[float], seeds: list[dict[str, Any]]) -> str:
    """Of the mean over seeds, query by query, with its 95 % interval."""
    if not before:
        return ""
    after = [mean(values) for values in zip(*(one["ndcg"] for one in seeds), strict=True)]
    apart = paired(before, after)
    return f"{apart.mean:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"
