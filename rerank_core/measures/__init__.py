"""Measures of rankings and of scores: metrics, intervals, tests, BM25, calibration. Libraries: the extra ``eval``.

Importing this package imports no library; a function imports the ones that it uses. The names in ``__all__`` are
public; the modules of this folder are not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank_core.measures.baselines import best_scores, bm25_scores, file_order_scores, random_values
    from rerank_core.measures.bm25 import BM25, terms
    from rerank_core.measures.calibration import cross_validated, isotonic, platt, temperature
    from rerank_core.measures.calibration_error import Bar, Reliability, Scored, histogram, reliability
    from rerank_core.measures.calibration_map import CalibrationMap
    from rerank_core.measures.comparisons import Comparison, compare, queries_needed, randomisation_test
    from rerank_core.measures.intervals import Interval, interval, interval_over_sets, intervals_of, paired
    from rerank_core.measures.metrics import measure_orders, parse_metrics
    from rerank_core.measures.query_values import QueryValues, measure_scores, worst_order
    from rerank_core.measures.thresholds import Threshold, threshold
else:  # imported when used, since `load` needs the calibration map alone
    _NAMES = {
        "baselines": "best_scores bm25_scores file_order_scores random_values",
        "bm25": "BM25 terms",
        "calibration": "cross_validated isotonic platt temperature",
        "calibration_error": "Bar Reliability Scored histogram reliability",
        "calibration_map": "CalibrationMap",
        "comparisons": "Comparison compare queries_needed randomisation_test",
        "intervals": "Interval interval interval_over_sets intervals_of paired",
        "metrics": "measure_orders parse_metrics",
        "query_values": "QueryValues measure_scores worst_order",
        "thresholds": "Threshold threshold",
    }
    _HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


__all__ = [
    "BM25",
    "Bar",
    "CalibrationMap",
    "Comparison",
    "Interval",
    "QueryValues",
    "Reliability",
    "Scored",
    "Threshold",
    "best_scores",
    "bm25_scores",
    "compare",
    "cross_validated",
    "file_order_scores",
    "histogram",
    "interval",
    "interval_over_sets",
    "intervals_of",
    "isotonic",
    "measure_orders",
    "measure_scores",
    "paired",
    "parse_metrics",
    "platt",
    "queries_needed",
    "random_values",
    "randomisation_test",
    "reliability",
    "temperature",
    "terms",
    "threshold",
    "worst_order",
]
