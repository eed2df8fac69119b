"""What the figures were measured with: models, machine, versions."""

from __future__ import annotations

from collections.abc import Iterable

from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.report.wording import tie_rule

__all__ = ["method_of"]


def method_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Names and texts of the last part of the report."""
    runs = [row.run for row in evaluation.rows if row.run is not None]
    metric = evaluation.metrics[0]
    told = [
        ("Decides", f"{metric}; {tie_rule(metric)}. Documents that nobody judged count as not relevant."),
        ("Other metrics", ", ".join(evaluation.metrics[1:])),
        ("Intervals", "95 % percentile bootstrap over queries; differences are taken on the same queries."),
        (
            "Settled",
            "p < 0.05 of a paired randomisation test, after Holm's correction for all comparisons of the set.",
        ),
        (
            "Latency",
            (
                "median wall time of one query with all its candidates, one call at a time, in a process of the "
                "model's own; p95: 95 % of queries take at most this long."
            ),
        ),
        (
            "Cost of 1,000",
            f"queries one after another, at {evaluation.price_per_hour:g} an hour"
            if evaluation.price_per_hour is not None
            else "",
        ),
        ("Machines", _all(run.facts.machine for run in runs)),
        ("Devices", _all(_device(run.facts.device, run.facts.threads, run.facts.dtype) for run in runs)),
        (
            "Versions",
            _all(f"{name} {version}" for run in runs for name, version in sorted(run.facts.versions.items())),
        ),
    ]
    return [(name, text) for name, text in told if text]


def _device(device: str | None, threads: int | None, dtype: str | None) -> str:
    parts = [device or "", f"{threads} threads" if threads else "", dtype or ""]
    return " ".join(part for part in parts if part)


def _all(values: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))
