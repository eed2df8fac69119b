"""The arithmetic of the timings, and the table that is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.scripts import module_of


def entry(engine: str, number: int, seconds: float, **more: Any) -> dict[str, Any]:
    made = {"cell": "12x384/dl19", "engine": engine, "round": number, "tokens": 1000, "seconds": seconds}
    return {**made, "peak": 2**30, **more}


def test_ratios_are_taken_within_a_round(root: Path) -> None:
    """A slow minute falls on both of a round: 2 and 3 times as long, never the ratio of the medians."""
    summary = module_of(root / "benchmarks" / "parts" / "summary.py").summary
    entries = [
        entry("limit", 0, 0.5), entry("ours", 0, 1.0), entry("other", 0, 2.0, drift=1e-7),
        entry("limit", 1, 5.0), entry("ours", 1, 10.0), entry("other", 1, 30.0, drift=3e-7),
        entry("limit", 2, 0.8), entry("ours", 2, 1.0), entry("other", 2, 2.5, drift=2e-7),
    ]  # fmt: skip
    [cell] = summary(entries)
    assert cell["engines"]["other"]["ratio"] == 2.5
    assert cell["engines"]["other"]["drift"] == 3e-7
    assert cell["engines"]["ours"]["tokens_per_second"] == 1000
    assert cell["share_of_limit"] == 0.5


def test_an_engine_that_failed_is_named_and_one_without_ours_is_no_cell(root: Path) -> None:
    summary = module_of(root / "benchmarks" / "parts" / "summary.py").summary
    failed = {"cell": "12x384/dl19", "engine": "other", "round": 0, "tokens": 9, "error": "other ended with 1"}
    [cell] = summary([entry("ours", 0, 1.0), failed])
    assert cell["engines"]["other"] == {"error": "other ended with 1"}
    assert summary([failed]) == []


def test_the_table_is_made_of_the_results(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "tools"))
    speed = module_of(root / "tools" / "tables" / "speed.py").speed
    figures = {"seconds": 1.0, "tokens_per_second": 4000, "ratio": 1.0, "rounds": 5, "peak_mb": 900, "drift": None}
    engines = {"ours": figures, "flagembedding": {**figures, "ratio": 6.49, "drift": 0.09}, "openvino": {"error": "no"}}
    cell = {"shape": "12x384", "workload": "dl19", "tokens": 9000, "share_of_limit": 0.71, "engines": engines}
    file = tmp_path / "cpu.json"
    file.write_text(json.dumps({"machine": {}, "cells": [cell]}), encoding="utf-8")
    header, _, row = speed(file).splitlines()
    assert "FlagEmbedding" in header
    assert "OpenVINO" not in header
    assert [part.strip() for part in row.split("|")[1:-1]][-3:] == ["4,000", "71 %", "6.5*"]  # scores apart
    assert speed(tmp_path / "none.json") == ""


def test_parts_of_a_later_query_are_shares_of_it(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 ms, MaxSim's 5 are a quarter; what an older file does not say is left out."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    late = module_of(root / "tools" / "tables" / "speed.py").late
    ours = {"first": 9.0, "later": 0.02, "first_ratio": 1.0, "later_ratio": 1.0}
    engines = dict.fromkeys(("ours", "pylate", "sentence-transformers", "cross-encoder"), ours)
    found: dict[str, Any] = {"engines": engines, "milliseconds": {"product": 1.0, "maxsim": 5.0, "query": 10.0}}
    file = tmp_path / "late.json"
    file.write_text(json.dumps(found), encoding="utf-8")
    _, _, first, _, query, best, product = (row.split("|")[2].strip() for row in late(file).splitlines())
    assert (first, query, best, product) == ("9.0 s", "10.0 ms, 50 %", "5.0 ms, 25 %", "1.0 ms, 5 %")
    file.write_text(json.dumps({**found, "first_share_of_limit": 0.7}), encoding="utf-8")
    assert "9.0 s, 70 % of the limit" in late(file)


def test_int8_and_busy_machines_have_ratios_of_their_own(root: Path) -> None:
    """Our int8 is the measure of another's int8, and an engine's own seconds alone are the measure of its slowdown."""
    summary = module_of(root / "benchmarks" / "parts" / "summary.py").summary
    [cell] = summary(
        [
            entry("ours", 0, 1.0, busy=1.5),
            entry("ours-int8", 0, 0.5, busy=1.0, tau=0.95),
            entry("onnx-runtime-int8", 0, 0.8, busy=0.9, tau=0.9),
            entry("onnx-runtime", 0, 2.0),
        ]
    )
    ours, int8, other, plain = cell["engines"].values()
    assert (ours["slowdown"], ours["busy_ratio"], ours["busy_seconds"]) == (1.5, 1.0, 1.5)
    assert (int8["int8_ratio"], int8["slowdown"], int8["kendall_tau"]) == (1.0, 2.0, 0.95)
    assert (other["ratio"], other["int8_ratio"], other["busy_ratio"]) == (0.8, 1.6, 0.6)
    assert "slowdown" not in plain
    assert "int8_ratio" not in plain


def test_cells_that_were_not_measured_again_are_kept(root: Path) -> None:
    merged = module_of(root / "benchmarks" / "parts" / "summary.py").merged
    old = [{"shape": "a", "workload": name, "tokens": 1} for name in ("x", "y")]
    new = [{"shape": "a", "workload": name, "tokens": 2} for name in ("y", "z")]
    assert [(cell["workload"], cell["tokens"]) for cell in merged(old, new)] == [("x", 1), ("y", 2), ("z", 2)]


def test_small_requests_and_loading_have_tables(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells of bulk work have no row, and the table of bulk work none of small requests."""
    monkeypatch.syspath_prepend(str(root / "tools"))
    tables = module_of(root / "tools" / "tables" / "requests.py")
    figures = {"seconds": 0.05, "tokens_per_second": 9, "ratio": 1.0, "rounds": 5, "peak_mb": 1900, "drift": None}
    small = {**figures, "busy_seconds": 1.09, "slowdown": 2.18}
    loaded = {**figures, "seconds": 2.04, "first": 0.06, "peak_mb": 1200}

    def cell(workload: str, ours: dict[str, Any]) -> dict[str, Any]:
        return {"shape": "12x384", "workload": workload, "share_of_limit": None, "engines": {"ours": ours}}

    file = tmp_path / "cpu.json"
    cells = [cell("dl19-10", small), cell("dl19", small), cell("t2rank", figures), cell("load", loaded)]
    file.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    lines = [[part.strip() for part in row.split("|")[1:4]] for row in tables.small_requests(file).splitlines()]
    assert lines[2:] == [
        ["12 × 384", "10", "50 ms"], ["", "beside a busy process", "1.1 s, 2.2 ×"],
        ["12 × 384", "100", "50 ms"], ["", "beside a busy process", "1.1 s, 2.2 ×"],
    ]  # fmt: skip
    loading = [row.split("|")[3].strip() for row in tables.loading(file).splitlines()]
    assert loading[2:] == ["2.0 s", "60 ms", "1,200 MB", "1,900 MB"]
    speed = module_of(root / "tools" / "tables" / "speed.py").speed
    assert len(speed(file).splitlines()) == 2 + 2  # dl19 and t2rank
    file.write_text(json.dumps({"cells": [cell("dl19", figures)]}), encoding="utf-8")
    assert tables.small_requests(file) == tables.loading(file) == ""


def test_the_tables_of_a_gpu_are_of_bfloat16(root: Path, tmp_path: Path) -> None:
    """The fastest of our batches beside the fastest of Hugging Face's; workers beside processes."""
    tables = module_of(root / "tools" / "tables" / "gpu.py")
    ways = [("bfloat16", "packed, 9", 200.0), ("bfloat16", "Hugging Face, 1", 50.0), ("bfloat16", "packed, 5", 100.0),
            ("float16", "packed, 9", 900.0), ("float16", "Hugging Face, 1", 100.0)]  # fmt: skip
    rows = [{"shape": "2 x 64", "dtype": dtype, "way": way, "tokens/s": speed, "of peak": speed / 1000}
            for dtype, way, speed in ways]  # fmt: skip
    items = [{"workers": 2, "tokens/s": 1800, "processes tokens/s": 2000, "of processes": 0.9, "rounds": 3}]
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({"rows": rows, "scaling": items}), encoding="utf-8")
    assert tables.gpu(file).splitlines()[2] == "| 2 × 64 | 200 | 20 % | 4.00 |  |"
    assert tables.scaling(file).splitlines()[2] == "| 2 | 1,800 | 2,000 | 0.90 |"
    file.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    assert tables.scaling(file) == ""
