"""An evaluation as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rerank_core.measures import Interval
from rerank_eval.figures.depth import depth_curve
from rerank_eval.figures.disagreement import disagreement, queries_made_worse
from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.fusion import fuse_pairs
from rerank_eval.figures.means import means_over_sets
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["SCHEMA_VERSION", "to_dict"]

SCHEMA_VERSION = 1


def to_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Everything that was measured and computed; texts of queries and documents are left out."""
    return {
        "schema_version": SCHEMA_VERSION,
        "metrics": list(evaluation.metrics),
        "price_per_hour": evaluation.price_per_hour,
        "sets": [_of_set(evaluation, judged) for judged in evaluation.sets],
        "means": [
            {"name": mean.name, "kind": mean.kind, "figure": _interval(mean.figure), "missing": list(mean.missing)}
            for mean in means_over_sets(evaluation)
        ],
    }


def _of_set(evaluation: Evaluation, judged: JudgedSet) -> dict[str, Any]:
    metric, rows = evaluation.metrics[0], evaluation.rows_of(judged.name)
    first_stage = next((row for row in rows if row.kind == "first stage"), None)
    models = {row.name: row for row in rows if row.kind == "model" and row.figures}
    scores = {name: [query.scores for query in row.run.queries] for name, row in models.items() if row.run}
    return {
        "name": judged.name,
        "digest": judged.digest,
        "queries": len(judged.queries),
        "candidates": sum(len(query.candidates) for query in judged.queries),
        "order": judged.order,
        "first_stage": judged.first_stage,
        "facts": asdict(judged.facts),
        "label_source": judged.label_source,
        "label_notes": list(judged.label_notes),
        "judged_share": evaluation.judged_share.get(judged.name),
        "query_ids": [query.id for query in judged.queries],
        "rows": [_row(row) for row in rows],
        "comparisons": [
            {**asdict(one), "difference": _interval(one.difference)}
            for one in evaluation.comparisons
            if one.set == judged.name
        ],
        "depth": {}
        if first_stage is None
        else {name: _keys(depth_curve(judged, own, metric)) for name, own in scores.items()},
        "made_worse": {}
        if first_stage is None
        else {
            name: [asdict(harm) for harm in queries_made_worse(judged, first_stage, row, metric)]
            for name, row in models.items()
        },
        "disagreement": disagreement(judged, scores),
        "fusions": [
            {**asdict(one), "figure": _interval(one.figure), "difference": _interval(one.difference)}
            for one in fuse_pairs(judged, scores, metric)
        ],
    }


def _row(row: Row) -> dict[str, Any]:
    run = row.run
    return {
        "name": row.name,
        "kind": row.kind,
        "figures": {metric: _interval(figure) for metric, figure in row.figures.items()},
        "per_query": {metric: list(values) for metric, values in row.per_query.items()},
        "judged": row.judged,
        "failed": row.failed,
        "truncated": row.truncated,
        "speed": None if row.speed is None else asdict(row.speed),
        "run": None
        if run is None
        else {
            "source": run.source,
            "options": dict(run.options),
            "fingerprint": run.fingerprint,
            "stopped": run.stopped,
            "reason": run.reason,
            "facts": run.facts.to_json(),
            "queries": [query.to_json() for query in run.queries],
        },
    }


def _interval(figure: Interval | None) -> dict[str, float] | None:
    return None if figure is None else asdict(figure)


def _keys(curve: Mapping[int, float]) -> dict[str, float]:
    return {str(depth): value for depth, value in curve.items()}
