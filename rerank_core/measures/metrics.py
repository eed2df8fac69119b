"""Metrics of rankings, computed by ir_measures.

nDCG reads gains as the labels give them, fractions included. Every other metric reads integer grades: labels rounded,
halves up, and 100,000 at most. This is one rule for the whole dev set and leaves integer labels unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeVar

from rerank_core.errors import InputError
from rerank_core.measures.libraries import needed_for

__all__ = ["DocId", "is_linear", "measure_orders", "parse_metrics"]

DocId = TypeVar("DocId", bound="int | str")
"""What names the documents of a query."""

# ir_measures takes integer gains and loops over each value up to the highest, so larger ones would be slow.
_MOST = 100_000


def parse_metrics(names: Sequence[str]) -> list[Any]:
    """Metrics of ir_measures by name, such as ``nDCG@10``.

    Raises:
        MissingDependencyError: ir_measures is not installed.
        InputError: a name that it does not know.
    """
    if not names:
        return []
    with needed_for("metrics"):
        import ir_measures
    providers = [one for one in ir_measures.DefaultPipeline.providers if one.is_available()]
    measures = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            supported = any(provider.supports(measure) for provider in providers)
        except (ValueError, NameError, SyntaxError, AssertionError) as error:
            raise InputError(
                f"{name!r}: measures are those of ir_measures, like nDCG@10, AP, RR@10; {error}"
            ) from error
        # On another cutoff or level trec_eval ends the process.
        for parameter in ("cutoff", "rel"):
            if measure.params.get(parameter, 1) < 1:
                raise InputError(f"{str(measure)!r} has a {parameter} below 1; it must be 1 or more, as in nDCG@10")
        if not supported:
            raise InputError(f"{str(measure)!r} is computed by no installed library; ir_measures' page names one")
        measures.append(measure)
    return measures


def measure_orders(
    measures: Sequence[Any], gains: Sequence[Mapping[DocId, float]], orders: Sequence[Sequence[DocId]]
) -> dict[str, list[float]]:
    """Each metric's value for each query.

    Args:
        gains: for each query, the gain of each judged document.
        orders: for each query, documents, best first.
    """
    import ir_measures

    run = [
        ir_measures.ScoredDoc(str(at), str(doc), float(-position))
        for at, order in enumerate(orders)
        for position, doc in enumerate(order)
    ]
    queries: dict[str, list[float]] = {str(measure): [0.0] * len(gains) for measure in measures}
    for group, levels in _judged(measures, gains):
        qrels = [
            ir_measures.Qrel(str(at), str(doc), level) for at, row in enumerate(levels) for doc, level in row.items()
        ]
        for one in ir_measures.iter_calc(group, qrels, run):
            queries[str(one.measure)][int(one.query_id)] = one.value
    return queries


def _judged(
    measures: Sequence[Any], gains: Sequence[Mapping[DocId, float]]
) -> list[tuple[list[Any], list[dict[DocId, int]]]]:
    """The metrics, each group with the integer grades that it reads."""
    grades = [{doc: min(math.floor(gain + 0.5), _MOST) for doc, gain in row.items()} for row in gains]
    linear = [one for one in measures if is_linear(one)]
    if list(gains) == grades or not linear:
        return [(list(measures), grades)]
    others = [one for one in measures if one not in linear]
    return [(linear, [_whole(row) for row in gains]), *([(others, grades)] if others else [])]


def is_linear(measure: Any) -> bool:
    """Whether a metric of ir_measures reads gains as they are: nDCG."""
    return measure.NAME == "nDCG" and set(measure.params) <= {"cutoff", "judged_only"}


def _whole(gains: Mapping[DocId, float]) -> dict[DocId, int]:
    """The gains of a query times one factor, which does not change nDCG: the smallest that makes them integers, or else
    the largest that is quick to compute."""
    highest = max(gains.values(), default=0.0)
    if highest <= 0:
        return dict.fromkeys(gains, 0)
    common = math.lcm(*(Fraction(gain).limit_denominator(_MOST).denominator for gain in gains.values()))
    most = _MOST / highest
    exact = common <= most and all(math.isclose(gain * common, round(gain * common)) for gain in gains.values())
    factor = common if exact else most
    return {doc: round(gain * factor) for doc, gain in gains.items()}
