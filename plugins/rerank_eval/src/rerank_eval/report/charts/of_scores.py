"""Plots of the raw scores of one model."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from rerank_core.measures import Bar, Reliability
from rerank_eval.report.charts.drawing import draw, rows_as_data
from rerank_eval.report.wording import count, share

__all__ = ["reliability_diagram", "score_histogram"]


def score_histogram(bars: Sequence[Bar], letter: str) -> Markup:
    """Shares of relevant and of irrelevant documents by score. Each label adds up to 100 %, since irrelevant documents
    are most often many more."""
    import altair as alt

    rows = []
    for label, tint in (("irrelevant", "var(--irrelevant)"), ("relevant", "var(--relevant)")):
        numbers = [bar.relevant if label == "relevant" else bar.irrelevant for bar in bars]
        total = sum(numbers) or 1
        rows += [
            {
                "low": bar.low,
                "high": bar.high,
                "share": number / total,
                "tint": tint,
                "about": f"score {bar.low:.3g} to {bar.high:.3g}: {count(number)} of {count(total)} {label} documents "
                f"({share(number / total)})",
            }
            for bar, number in zip(bars, numbers, strict=True)
            if number
        ]
    chart = (
        alt.Chart(rows_as_data(rows))
        .mark_bar(opacity=0.6, binSpacing=0)
        .encode(
            x=alt.X("low:Q", title="raw score", scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(tickCount=5)),
            x2="high:Q",
            y=alt.Y("share:Q", title="share of documents", axis=alt.Axis(format="%", tickCount=4)),
            y2=alt.Y2Datum(0),
            color=alt.Color("tint:N", scale=None),
            description="about:N",
        )
    )
    return draw(chart.properties(width=235, height=150), f"Scores of {letter} by label")


def reliability_diagram(figures: Reliability, letter: str, tint: str) -> Markup:
    """The share of relevant documents against the mean probability, by bin of probability; the diagonal is perfect."""
    import altair as alt

    rows = [
        {
            "predicted": mean,
            "relevant": part,
            "documents": documents,
            "about": f"probability {share(mean)}: {share(part)} of {count(documents)} documents are relevant",
        }
        for documents, mean, part in figures.bins
    ]
    whole, halves = alt.Scale(domain=[0, 1]), [0, 0.5, 1]
    base = alt.Chart(rows_as_data(rows)).encode(
        x=alt.X("predicted:Q", title="probability by the model", scale=whole, axis=alt.Axis(format="%", values=halves)),
        y=alt.Y("relevant:Q", title="relevant documents", scale=whole, axis=alt.Axis(format="%", values=halves)),
    )
    diagonal = (
        alt.Chart(rows_as_data([{"predicted": 0, "relevant": 0}, {"predicted": 1, "relevant": 1}]))
        .mark_line(strokeDash=[5, 4], opacity=0.5, color="currentColor", strokeWidth=1.5)
        .encode(x="predicted:Q", y="relevant:Q")
    )
    size = alt.Size("documents:Q", scale=alt.Scale(range=[25, 260], zero=True))
    chart = alt.layer(
        diagonal,
        base.mark_line(color=tint, strokeWidth=2),
        base.mark_circle(color=tint, opacity=0.9).encode(size=size, description="about:N"),
    )
    return draw(chart.properties(width=175, height=150), f"Reliability of {letter}")
