"""Quality against latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from rerank_eval.report.charts.drawing import colour_scale, draw, rows_as_data
from rerank_eval.report.rows.pareto import Point
from rerank_eval.report.wording import bounds, milliseconds, value

if TYPE_CHECKING:
    import altair

__all__ = ["log_ticks", "trade_off"]

_LOG_FROM = 8
"""Times are on a logarithmic scale where the slowest is this many times as slow as the fastest."""


def trade_off(
    points: Sequence[Point], keys: Mapping[str, int], letters: Mapping[str, str], metric: str, stage: float | None
) -> list[tuple[str, Markup]]:
    """The plot for wide and for narrow pages: ``(class of the style sheet, SVG)``; nothing without points.

    Args:
        keys, letters: number and letter of each model.
        stage: the first stage's mean, a dashed line.
    """
    if not points:
        return []
    label = f"{metric} against median latency of a query: " + ", ".join(
        f"{letters[point.name]} {value(point.quality.mean)} at {milliseconds(point.milliseconds)}" for point in points
    )
    sizes = (("wide", 860, 320), ("narrow", 290, 250))
    return [
        (name, draw(_chart(points, keys, letters, metric, stage).properties(width=width, height=height), label))
        for name, width, height in sizes
    ]


def _chart(
    points: Sequence[Point], keys: Mapping[str, int], letters: Mapping[str, str], metric: str, stage: float | None
) -> altair.LayerChart:
    import altair as alt

    rows = [
        {
            "key": letters[point.name],
            "ms": point.milliseconds,
            "mean": point.quality.mean,
            "low": point.quality.low,
            "high": point.quality.high,
            "side": side,
            "about": f"{letters[point.name]}: {metric} {value(point.quality.mean)} {bounds(point.quality)}, "
            f"{milliseconds(point.milliseconds)} a query",
        }
        for point, side in zip(points, _sides(points), strict=True)
    ]
    times = [point.milliseconds for point in points]
    wide = max(times) > _LOG_FROM * min(times) > 0
    low, high = (min(times) / 1.6, max(times) * 1.6) if wide else (0.0, max(times) * 1.15 or 1.0)
    scale = alt.Scale(type="log" if wide else "linear", domain=[low, high], nice=False)
    ticks = {"values": log_ticks(low, high)} if wide else {"tickCount": 6}
    x = alt.X("ms:Q", scale=scale, title="median latency of a query, ms", axis=alt.Axis(format=",~f", **ticks))
    y = alt.Y("mean:Q", scale=alt.Scale(zero=False, nice=True), title=metric, axis=alt.Axis(tickCount=6))
    tint = alt.Color("key:N", scale=colour_scale({letters[point.name]: keys[point.name] for point in points}))
    data = rows_as_data(rows)
    efficient = rows_as_data([row for row, point in zip(rows, points, strict=True) if point.efficient])
    layers: list[alt.Chart] = []
    if stage is not None:
        line = alt.Chart(rows_as_data([{"mean": stage, "about": f"first stage: {value(stage)}"}]))
        layers.append(line.mark_rule(strokeDash=[5, 4], opacity=0.7).encode(y=y, description="about:N"))
        named = line.mark_text(align="right", baseline="bottom", dy=-3, dx=-2, text="first stage", opacity=0.8)
        layers.append(named.encode(y=y, x=alt.value("width")))
    layers.append(
        alt.Chart(efficient)
        .mark_line(interpolate="step-after", opacity=0.45, strokeWidth=2, color="currentColor")
        .encode(x=x, y=y)
    )
    layers.append(
        alt.Chart(data).mark_rule(strokeWidth=2).encode(x=x, y=alt.Y("low:Q", title=metric), y2="high:Q", color=tint)
    )
    layers.append(alt.Chart(data).mark_circle(size=110, opacity=1).encode(x=x, y=y, color=tint, description="about:N"))
    for side, sign in (("left", -1), ("right", 1)):
        # Text to the left of a point is aligned at its right end.
        text = alt.Chart(rows_as_data([row for row in rows if row["side"] == side])).mark_text(
            align="right" if side == "left" else "left",
            baseline="bottom",
            dx=8 * sign,
            dy=-5,
            fontWeight="bold",
            fontSize=13,
        )
        layers.append(text.encode(x=x, y=y, text="key:N"))
    return alt.LayerChart(layer=layers)


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``: 1, 2, 5, 10, 20 and so on, or powers of ten where these would be many.

    >>> log_ticks(3, 120), log_ticks(0.5, 12000)
    ([5, 10, 20, 50, 100], [1, 10, 100, 1000, 10000])
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [step * 10**power for power in powers for step in (1, 2, 5) if low <= step * 10**power <= high]
    return ticks if len(ticks) <= 7 else [10**power for power in powers if low <= 10**power <= high]


def _sides(points: Sequence[Point]) -> list[str]:
    """The side of each point, sorted by time, on which its letter is: left of a point with a close one to its right."""
    sides = []
    for point, following in zip(points, [*points[1:], None], strict=True):
        close = (
            following is not None
            and following.milliseconds <= 1.35 * point.milliseconds
            and abs(following.quality.mean - point.quality.mean) < (point.quality.high - point.quality.low)
        )
        sides.append("left" if close else "right")
    return sides
