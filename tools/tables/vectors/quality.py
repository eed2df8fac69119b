"""Tables of docs/training-results.md on embedding and late-interaction models, of benchmarks/vector_training.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from rerank_core.measures import paired

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "benchmarks"))
from vectors.catalogue import CURVE, RUNS, Run  # noqa: E402

__all__ = ["NOT_RUN", "Measured", "compared", "curve", "matryoshka", "trained"]

RESULTS = ROOT / "benchmarks" / "results" / "vector_training.jsonl"
NOT_RUN = "not run yet"
SEARCHED = ("nfcorpus", "scifact", "cmrc", "xquad-zh")
RERANKED = ("wikiqa", "dl19", "nfcorpus", "scifact", "cepilepsyqa", "cmedir")
WORDS = {"candidates": "", "search": ", whole collection"}


class Measured:
    """The rows of a results file by what was measured."""

    def __init__(self, file: Path) -> None:
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        self.rows: list[dict[str, Any]] = [row for row in map(json.loads, lines) if "ndcg" in row]

    def of(
        self, run: str, test: str, how: str, *, share: float | None = None, width: int | None = None
    ) -> list[dict[str, Any]]:
        """The measurements of a run on a set, one for each seed; the last one if a seed was measured twice."""
        found = {
            row["seed"]: row
            for row in self.rows
            if (row["run"], row["set"], row["how"], row["share"], row["width"]) == (run, test, how, share, width)
        }
        return [found[seed] for seed in sorted(found, key=lambda seed: seed or 0)]

    def split(self, names: Sequence[str]) -> tuple[list[str], str]:
        """The runs of which there are measurements, and a paragraph with the names of the others."""
        begun = {row["run"] for row in self.rows}
        others = [name for name in names if name not in begun]
        return [name for name in names if name in begun], f"\n\nNot run yet: {'; '.join(others)}." if others else ""


def ways(test: str) -> list[str]:
    """How a set is measured."""
    return [*(["candidates"] if test in RERANKED else []), *(["search"] if test in SEARCHED else [])]


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table; the first ``left`` columns are left-aligned."""
    marks = ["---"] * left + ["--:"] * (len(titles) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [titles, marks, *rows])


def figure(rows: Sequence[dict[str, Any]], measure: str = "nDCG@10") -> str:
    """The mean over seeds, with the standard deviation of several."""
    if not rows:
        return NOT_RUN
    values = [row["means"][measure] for row in rows]
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def difference(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> str:
    """The difference of nDCG@10 on the same queries, means over seeds, with its 95 % interval.

    A run that measured only the first queries of a set is compared on these.
    """
    if not before or not after:
        return NOT_RUN
    sides = [[mean(values) / 10_000 for values in zip(*(row["ndcg"] for row in rows), strict=True)]
             for rows in (before, after)]  # fmt: skip
    shared = min(map(len, sides))
    one = paired(*(side[:shared] for side in sides))
    return f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def trained(names: Sequence[str], file: Path = RESULTS) -> str:
    """Each run on each of its sets: BM25, the untouched model, the trained one, and the average of both."""
    measured = Measured(file)
    names, others = measured.split(names)
    rows = []
    for run in map(RUNS.__getitem__, names):
        for test in run.sets:
            for how in ways(test) if run.kind != "cross-encoder" else ["candidates"]:
                untouched = measured.of(f"untouched {run.start}", test, how)
                after = [measured.of(run.name, test, how, share=share) for share in (0.0, 0.5)]
                cells = [run.name, test + WORDS[how], figure(measured.of("bm25", test, how))]
                if run.kind == "cross-encoder":
                    rows.append([*cells, "", figure(after[0]), "", "", ""])
                    continue
                cells += [figure(untouched), *map(figure, after)]
                rows.append([*cells, *(difference(untouched, one) for one in after)])
    titles = (
        "run", "test set", "BM25", "untouched", "trained", "averaged", "trained, difference", "averaged, difference",
    )  # fmt: skip
    return table(titles, rows, 2) + others


def curve(names: Sequence[str], file: Path = RESULTS) -> str:
    """nDCG@10 of the first seed at each share of the start's weights; 1 is the untouched model."""
    measured = Measured(file)
    names, others = measured.split(names)
    shares = [share for share in CURVE if any(row["share"] == share for row in measured.rows)]
    rows = []
    for run in map(RUNS.__getitem__, names):
        for test in run.sets:
            for how in ways(test):
                cells = [figure(measured.of(run.name, test, how, share=share)[:1]) for share in shares]
                untouched = figure(measured.of(f"untouched {run.start}", test, how))
                rows.append([run.name, test + WORDS[how], *cells, untouched])
    return table(("run", "test set", *(f"{share:g}" for share in shares), "1"), rows, 2) + others


def matryoshka(file: Path = RESULTS) -> str:
    """nDCG@10 on NFCorpus at each width, and the difference from the untouched model cut to that width."""
    measured = Measured(file)
    plain: Run = RUNS["nfcorpus embedding"]
    widths = (None, 256, 128, 64)
    names, others = measured.split(
        ["nfcorpus embedding", "nfcorpus matryoshka", "nfcorpus width 256 alone", "nfcorpus width 64 alone"]
    )
    rows = []
    for how in ways("nfcorpus"):
        untouched = {width: measured.of(f"untouched {plain.start}", "nfcorpus", how, width=width) for width in widths}
        rows.append(["untouched, cut", "nfcorpus" + WORDS[how], *(figure(untouched[width]) for width in widths)])
        for name in names:
            cells = []
            for width in widths:
                if width not in RUNS[name].widths:
                    cells.append("")
                    continue
                one = measured.of(name, "nfcorpus", how, share=0.0, width=width)[:1]
                cells.append(NOT_RUN if not one else f"{figure(one)}, {difference(untouched[width], one)}")
            rows.append([name, "nfcorpus" + WORDS[how], *cells])
    return table(("run", "test set", "384", "256", "128", "64"), rows, 2) + others


def compared(baseline: str, names: Sequence[str], file: Path = RESULTS) -> str:
    """Runs of one seed, as trained, beside another run: nDCG@10 and the difference from it."""
    measured = Measured(file)
    names, others = measured.split([baseline, *names])
    rows = []
    for test in RUNS[baseline].sets:
        before = measured.of(baseline, test, "candidates", share=0.0)[:1]
        for name in names:
            after = measured.of(name, test, "candidates", share=0.0)[:1]
            rows.append([test, name, figure(after), "" if name == baseline else difference(before, after)])
    return table(("test set", "run", "nDCG@10", "difference"), rows, 2) + others
