"""Measures of rankings and of scores: metrics, intervals, BM25, calibration. Their libraries are the extra ``eval``.

Importing this package imports no library; a function imports the ones that it uses. The names in ``__all__`` are
public; the modules of this folder are not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank_core.measures.bm25 import BM25, terms
    from rerank_core.measures.calibration import platt, temperature
    from rerank_core.measures.calibration_error import Bar, Reliability, Scored, histogram, reliability
    from rerank_core.measures.calibration_map import CalibrationMap
    from rerank_core.measures.intervals import Interval, interval, paired
    from rerank_core.measures.metrics import measure_orders, parse_metrics
else:  # imported when used, since `load` needs the calibration map alone
    _NAMES = {
        "bm25": "BM25 terms",
        "calibration": "platt temperature",
        "calibration_error": "Bar Reliability Scored histogram reliability",
        "calibration_map": "CalibrationMap",
        "intervals": "Interval interval paired",
        "metrics": "measure_orders parse_metrics",
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
    "Interval",
    "Reliability",
    "Scored",
    "histogram",
    "interval",
    "measure_orders",
    "paired",
    "parse_metrics",
    "platt",
    "reliability",
    "temperature",
    "terms",
]
