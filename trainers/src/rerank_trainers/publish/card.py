"""The model card of a published folder: how to load it, how it was trained, its metrics. Unknown facts are left out."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_core import ModelSpec
from rerank_core.measures import CalibrationMap
from rerank_core.spec.hub_or_folder import hub_name_of, is_path
from rerank_trainers.config.schema import Config
from rerank_trainers.evaluation.result import Result
from rerank_trainers.loop.run_record import environment
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.publish.card_tables import calibration_lines, measure_lines, table
from rerank_trainers.publish.other_libraries import plain_use

__all__ = ["CardFacts", "card", "public_name"]


@dataclass(frozen=True)
class CardFacts:
    """Facts for the model card that are not in the folder's files; None and empty ones are left out of the card.

    Attributes:
        origin: checkpoint that training started from: a model's name or hub id; of a path the card names only the last
            part.
        config: configuration of the run.
        sources, dev_sources: number of rows of each source.
        fingerprint, dev_fingerprint: SHA-256 of the files.
        before, after: dev set metrics before and after training.
        steps, epochs: length of training.
        date: ISO date; by default today.
        versions: library versions; by default those of `run_record.environment`.
    """

    origin: str | None = None
    config: Config | None = None
    sources: Mapping[str, int] = field(default_factory=dict)
    dev_sources: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    dev_fingerprint: str | None = None
    before: Result | None = None
    after: Result | None = None
    steps: int | None = None
    epochs: float | None = None
    date: str | None = None
    versions: Mapping[str, str] | None = None


def public_name(origin: str) -> str:
    """A model's name or hub id unchanged; for a path its hub id, or else its last part.

    >>> public_name("BAAI/bge-reranker-base"), public_name("/home/alice/models/ours/")
    ('BAAI/bge-reranker-base', 'ours')
    """
    if re.fullmatch(r"[\w.:-]+(/[\w.-]+)?", origin) and not is_path(origin) and not os.path.isdir(origin):
        return origin
    return hub_name_of(origin) or Path(origin).resolve().name


def card(
    spec: ModelSpec,
    kind: ModelKind,
    facts: CardFacts,
    *,
    dtype: str,
    scaling: CalibrationMap | None = None,
    folder: Path | None = None,
) -> str:
    """The README.md of a published folder.

    Args:
        spec: the published spec.
        scaling: calibration written into the weights; None for none.
        folder: the published folder, whose files show which libraries read it.
    """
    parts = [
        _front_matter(spec, kind, facts),
        f"# {spec.name}\n",
        *([spec.description + "\n"] if spec.description else []),
        _what(spec, kind, facts, dtype, scaling),
        _use(spec, scaling, folder),
        _metrics(facts),
        _calibration(spec, facts, scaling),
        _data(facts),
        _settings(facts),
        _made(facts),
    ]
    return "\n".join(part for part in parts if part)


def _front_matter(spec: ModelSpec, kind: ModelKind, facts: CardFacts) -> str:
    import yaml

    data: dict[str, Any] = {
        "license": spec.license or None,
        "language": list(spec.languages) or None,
        "library_name": "rerank-core",
        "pipeline_tag": "text-ranking",
        "tags": ["reranker", "rerank-core", kind.tag],
    }
    origin = public_name(facts.origin) if facts.origin else ""
    if "/" in origin:
        data["base_model"] = origin
    front = {key: value for key, value in data.items() if value is not None}
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _what(spec: ModelSpec, kind: ModelKind, facts: CardFacts, dtype: str, scaling: CalibrationMap | None) -> str:
    origin = f", fine-tuned from `{public_name(facts.origin)}`" if facts.origin else ""
    read = f" It reads {spec.max_length} tokens at once; longer documents are read in windows ({spec.longdoc})."
    shown = "the raw score" if spec.activation == "none" else f"the {spec.activation} of the raw score"
    if scaling is not None:
        shown += ", whose sigmoid was fitted to be the probability of relevance"
    return f"{kind.sentence}{origin}.{read} Weights are {dtype}; rerank-core shows {shown}.\n"


def _use(spec: ModelSpec, scaling: CalibrationMap | None, folder: Path | None) -> str:
    sigmoid = ', activation="sigmoid"' if scaling is not None and spec.activation == "none" else ""
    lines = [
        "## Use\n",
        "```python",
        "import rerank_core\n",
        'reranker = rerank_core.load("path/to/this/folder")',
        f'ranking = reranker.rerank("what is a panda?", ["a bear", "a car"]{sigmoid})',
        "```\n",
    ]
    return "\n".join([*lines, *plain_use(spec, folder)]) + "\n"


def _metrics(facts: CardFacts) -> str:
    if facts.after is None:
        return ""
    sizes = _queries_by_set(facts.after)
    queries = max(sizes.values(), default=0)
    sets = ", ".join(f"{name} ({count} queries)" if count else f"{name} (text pairs)" for name, count in sizes.items())
    sentences = [
        f"Dev sets, measured by the serving pipeline: {sets}."
        if any(sizes)
        else f"Dev set of {queries} queries, ranked by the serving pipeline.",
        "Documents with equal scores are put in the worst order.",
    ]
    if queries > 1:
        pairs = "" if facts.before is None else ", paired for the difference"
        sentences.append(f"In brackets 95 % intervals: percentile bootstrap over queries{pairs}.")
    if facts.config is not None and facts.config.data.eval:
        best = facts.config.train.metric
        where = f"{best}, so the metrics of its set are" if any(sizes) else f"{best} on this set, so its metrics are"
        sentences.append(f"Training kept the checkpoint with the best {where} optimistic.")
    return "\n".join(["## Results\n", " ".join(sentences) + "\n", *measure_lines(facts.before, facts.after), ""])


def _queries_by_set(result: Result) -> dict[str, int]:
    """Number of queries of each dev set by its name, empty for a set without one; 0 for text pairs."""
    sizes: dict[str, int] = {}
    for name in result.values:
        one = name.rpartition("/")[0]
        sizes[one] = max(sizes.get(one, 0), len(result.queries.get(name, ())))
    return sizes


def _calibration(spec: ModelSpec, facts: CardFacts, scaling: CalibrationMap | None) -> str:
    if facts.after is None or not facts.after.scored or spec.raw_space != "logit":
        return ""
    return "\n".join(["## Calibration\n", *calibration_lines(facts.after.scored, scaling), ""])


def _data(facts: CardFacts) -> str:
    lines: list[str] = []
    for what, sources, digest in (
        ("training", facts.sources, facts.fingerprint),
        ("dev", facts.dev_sources, facts.dev_fingerprint),
    ):
        if sources:
            rows = [(Path(name).name or name, f"{count:,}") for name, count in sources.items()]
            lines += [*table((f"{what} data", "rows"), rows), ""]
        if digest:
            lines += [f"SHA-256 of the {what} files: `{digest}`", ""]
    return "\n".join(["## Data\n", *lines]) if lines else ""


def _settings(facts: CardFacts) -> str:
    if facts.config is None:
        return ""
    return "\n".join(["## Training\n", *table(("setting", "value"), _settings_rows(facts.config, facts)), ""])


def _settings_rows(config: Config, facts: CardFacts) -> list[tuple[str, str]]:
    """Settings that affect the trained weights, without paths, memory and logging."""
    data, model, train = config.data, config.model, config.train
    objective = " + ".join(
        (f"{part.weight:g} × " if part.weight != 1 else "")
        + part.name
        + (f" {json.dumps(dict(part.options))}" if part.options else "")
        + ("" if part.temperature is None else f", temperature {part.temperature:g}")
        for part in config.objective
    )
    settings: list[tuple[str, Any]] = [
        ("objective", objective),
        ("documents of a query in a step", data.group_size or "all"),
        ("labels", json.dumps(dict(data.label_map)) if data.label_map else "{:g} to {:g}".format(*data.label_range)),
        ("model kind", model.kind or "cross-encoder"),
        ("like", model.like),
        ("max length", model.max_length),
        ("max query length", model.max_query_length),
        ("dropout", model.dropout),
        ("pooling", model.pooling),
        ("width of the vectors", model.width),
        ("MaxSim", model.reduce),
        ("Matryoshka widths", ", ".join(map(str, model.matryoshka)) or None),
    ]
    if model.lora is not None:
        bits = f", base in {model.lora.bits} bits" if model.lora.bits else ""
        settings.append(("LoRA", f"r {model.lora.r}, alpha {model.lora.alpha}, dropout {model.lora.dropout:g}{bits}"))
    settings += [
        ("epochs", train.epochs if train.max_steps < 0 else None),
        ("steps", facts.steps),
        ("epochs seen", None if facts.epochs is None else f"{facts.epochs:.2f}"),
        ("queries of a step", train.batch_size),
        ("learning rate", f"{train.learning_rate:g}, {train.schedule}, warm-up {train.warmup:g}"),
        ("weight decay", f"{train.weight_decay:g}"),
        ("gradient clipping", f"{train.clip:g}"),
        ("precision", train.precision),
        ("seed", train.seed),
        ("average with the start", config.publish.average_with_start or None),
    ]
    return [(name, str(value)) for name, value in settings if value is not None]


def _made(facts: CardFacts) -> str:
    date = facts.date or datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    versions = environment() if facts.versions is None else facts.versions
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Made on {date}" + (f" with {libraries}" if libraries else "") + ".\n"
