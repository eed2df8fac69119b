"""Plots with a line, a bar or points for each model: depth, harm, position and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from rerank_eval.report.charts.drawing import colour_scale, draw, rows_as_data
from rerank_eval.report.rows.lengths import LengthLoss
from rerank_eval.report.rows.passages import Positions
from rerank_eval.report.wording import bounds, count, share, value

if TYPE_CHECKING:
    import altair

__all__ = ["depth_lines", "harm_bars", "length_points", "position_bars"]

_WIDTH = 330


def depth_lines(
    curves: Mapping[str, Mapping[int, float]], keys: Mapping[str, int], letters: Mapping[str, str], metric: str
) -> Markup:
    """The metric by the number of candidates that a model re-ranks.

    Args:
        curves: for each model, the mean by depth.
    """
    import altair as alt

    rows = [
        {
            "key": letters[name],
            "depth": depth,
            "mean": mean,
            "about": f"{letters[name]}, depth {depth}: {metric} {value(mean)}",
        }
        for name, curve in curves.items()
        for depth, mean in curve.items()
    ]
    depths = sorted({depth for curve in curves.values() for depth in curve})
    base = alt.Chart(rows_as_data(rows)).encode(
        x=alt.X("depth:O", title="candidates re-ranked", axis=alt.Axis(labelAngle=0, values=depths)),
        y=alt.Y("mean:Q", title=metric, scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
        color=_tint(curves, keys, letters),
    )
    ends = (
        alt.Chart(rows_as_data(_line_ends(rows, depths[-1])))
        .mark_text(align="left", dx=9, fontWeight="bold")
        .encode(x="depth:O", y="mean:Q", text="key:N")
    )
    chart = alt.layer(
        base.mark_line(strokeWidth=2), base.mark_circle(size=50, opacity=1).encode(description="about:N"), ends
    )
    return draw(chart.properties(width=_WIDTH, height=220), f"{metric} by number of candidates re-ranked")


def harm_bars(counts: Mapping[str, tuple[int, int, int]], letters: Mapping[str, str]) -> Markup:
    """Shares of queries that became better, stayed equal and became worse than in the first stage.

    Args:
        counts: for each model (better, equal, worse).
    """
    parts = {letters[name]: dict(zip(("better", "equal", "worse"), own, strict=True)) for name, own in counts.items()}
    tints = {"better": "var(--good)", "equal": "var(--even)", "worse": "var(--bad)"}
    return _bars(parts, tints, "queries", "Queries better, equal and worse than in the first stage, by model")


def position_bars(lines: Sequence[Positions], letters: Mapping[str, str]) -> Markup:
    """Shares of relevant documents by the place of their best passage."""
    parts = {
        letters[line.name]: {"beginning": line.beginning, "middle": line.middle, "end": line.end} for line in lines
    }
    tints = {"beginning": "var(--p0)", "middle": "var(--p1)", "end": "var(--p2)"}
    return _bars(parts, tints, "relevant documents", "Place of the best passage in relevant documents, by model")


def length_points(lines: Sequence[LengthLoss], keys: Mapping[str, int], letters: Mapping[str, str]) -> Markup:
    """Mean loss by the length of relevant documents, with intervals."""
    import altair as alt

    names = [f"{count(one.low + 1)}–{count(one.high)}" for one in lines[0].bins]
    rows: list[dict[str, Any]] = [
        {
            "key": letters[line.name],
            "length": name,
            "loss": one.loss.mean,
            "low": one.loss.low,
            "high": one.loss.high,
            "about": f"{letters[line.name]}, {name} characters: loss {value(one.loss.mean)} {bounds(one.loss)}, "
            f"{count(one.documents)} documents of {count(one.queries)} queries",
        }
        for line in lines
        for name, one in zip(names, line.bins, strict=True)
        if one.loss is not None
    ]
    base = alt.Chart(rows_as_data(rows)).encode(
        x=alt.X(
            "length:O",
            sort=names,
            scale=alt.Scale(domain=names),
            title="characters of the relevant document",
            axis=alt.Axis(labelAngle=0),
        ),
        xOffset=alt.XOffset("key:N"),
        color=_tint([line.name for line in lines], keys, letters),
    )
    chart = alt.layer(
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title="loss"), y2="high:Q"),
        base.mark_circle(size=50, opacity=1).encode(y=alt.Y("loss:Q", title="loss"), description="about:N"),
    )
    return draw(chart.properties(width=_WIDTH, height=220), "Loss by length of relevant documents")


def _line_ends(rows: Sequence[Mapping[str, Any]], depth: int) -> list[dict[str, Any]]:
    """The letters at the right ends of lines; those of lines that end at nearly one place are one text."""
    height = max(row["mean"] for row in rows) - min(row["mean"] for row in rows)
    ends: list[dict[str, Any]] = []
    for row in sorted((row for row in rows if row["depth"] == depth), key=lambda row: -row["mean"]):
        if ends and ends[-1]["lowest"] - row["mean"] <= height / 15:
            ends[-1].update(key=f"{ends[-1]['key']}, {row['key']}", lowest=row["mean"])
        else:
            ends.append({"key": row["key"], "depth": depth, "mean": row["mean"], "lowest": row["mean"]})
    return [{name: end[name] for name in ("key", "depth", "mean")} for end in ends]


def _tint(
    names: Sequence[str] | Mapping[str, Any], keys: Mapping[str, int], letters: Mapping[str, str]
) -> altair.Color:
    import altair

    return altair.Color("key:N", scale=colour_scale({letters[name]: keys[name] for name in names}))


def _bars(parts: Mapping[str, Mapping[str, int]], tints: Mapping[str, str], things: str, label: str) -> Markup:
    import altair as alt

    rows: list[dict[str, Any]] = []
    for key, own in parts.items():
        total, start = sum(own.values()) or 1, 0.0
        for part, number in own.items():
            stop = start + number / total
            about = f"{key}: {count(number)} of {count(total)} {things} ({share(number / total)}) {part}"
            rows.append({"key": key, "part": part, "start": start, "stop": stop, "about": about})
            start = stop
    bars = alt.Chart(rows_as_data(rows)).encode(
        y=alt.Y("key:N", title=None, sort=list(parts), axis=alt.Axis(labelFontWeight="bold", grid=False)),
        x=alt.X(
            "start:Q",
            title=f"share of {things}",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format="%", tickCount=5),
        ),
        x2="stop:Q",
        color=alt.Color("part:N", scale=alt.Scale(domain=list(tints), range=list(tints.values()))),
        description="about:N",
    )
    return draw(bars.mark_bar(height=18).properties(width=_WIDTH, height=28 * len(parts)), label)
