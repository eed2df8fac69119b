"""The answer over all sets, and the table of models by set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rerank_core.measures import Interval
from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.means import Mean, means_over_sets
from rerank_eval.figures.query_values import measured
from rerank_eval.report.rows.answer import Answer
from rerank_eval.report.sections import Section
from rerank_eval.report.sentences import headline, sentences
from rerank_eval.report.table import FIXED, Cell
from rerank_eval.report.wording import bounds, milliseconds, plus, tie_rule, value

__all__ = ["Overall", "OverallLine", "overall_of"]


@dataclass(frozen=True, slots=True)
class OverallLine:
    """A model, the first stage, or a ``fixed`` one, a floor or the ceiling: its mean over sets, then its figure of each
    set and whether it is the best model there."""

    name: str
    kind: str
    cells: tuple[tuple[Cell, bool], ...]
    fixed: bool = False


@dataclass(frozen=True, slots=True)
class Overall:
    """What the page begins with. ``lines`` are empty for one set."""

    headline: str
    sentences: tuple[str, ...]
    basis: str = ""
    lines: tuple[OverallLine, ...] = ()


def overall_of(evaluation: Evaluation, sections: Sequence[Section]) -> Overall:
    """The answer: that of the set, or of the means over several sets."""
    metric = evaluation.metrics[0]
    if len(sections) == 1:
        own = sections[0].answer
        return Overall(headline(own), tuple(sentences(own, metric)))
    means = means_over_sets(evaluation)
    models = [mean for mean in means if mean.kind == "model" and mean.figure]
    basis = (
        f"{metric}; bold: the best model of the set; [ ]: 95 % bootstrap interval, queries drawn within each set; "
        f"{tie_rule(metric)}. Each set counts the same in the mean."
    )
    lines = tuple(_line(evaluation, sections, mean) for mean in means)
    if not models:
        return Overall("No model ran on all sets, so there is no mean over sets.", (), basis, lines)
    answers = [section.answer for section in sections]
    lead = _lead(evaluation, models[0].name, models[1].name) if len(models) > 1 else None
    said = [*_numbers(evaluation, models, lead, metric), *_by_set(answers)]
    stage = next((mean.figure for mean in means if mean.kind == "first stage"), None)
    return Overall(_headline(models[0], answers, stage), tuple(said), basis, lines)


def _headline(best: Mean, answers: Sequence[Answer], stage: Interval | None) -> str:
    if stage and best.figure and best.figure.mean <= stage.mean:
        return f"No model is better than the first stage on average; of the models, {best.name} has the highest mean."
    led = [own for own in answers if own.leader is not None and own.leader.name == best.name]
    if len(led) == len(answers) and all(own.settled for own in led):
        return f"{best.name} is the best model on all {len(answers)} sets."
    if len(led) == len(answers):
        return f"{best.name} leads on all {len(answers)} sets, not always beyond doubt."
    return f"{best.name} is best on average; it leads on {len(led)} of {len(answers)} sets."


def _numbers(evaluation: Evaluation, models: Sequence[Mean], lead: Interval | None, metric: str) -> list[str]:
    """The mean of the best model and its lead over the next one."""
    best = models[0]
    said = []
    if best.figure:
        said.append(
            f"Its mean {metric} over {len(evaluation.sets)} sets, each counted the same, is {value(best.figure.mean)} "
            f"{bounds(best.figure)}{_latency(evaluation, best.name)}."
        )
    if lead is not None and (second := models[1].figure):
        apart = "the interval is above 0" if lead.low > 0 else "not settled: the interval includes 0"
        said.append(
            f"That is {plus(lead.mean)} {bounds(lead, signed=True)} against the next, {models[1].name} "
            f"({value(second.mean)}{_latency(evaluation, models[1].name)}); {apart}."
        )
    return said


def _latency(evaluation: Evaluation, name: str) -> str:
    """The median latency on each set, from the lowest to the highest."""
    times = [row.speed.median_ms for row in evaluation.rows if row.kind == "model" and row.name == name and row.speed]
    if not times:
        return ""
    low, high = milliseconds(min(times)), milliseconds(max(times))
    return f", at a median of {low} a query" if low == high else f", at a median of {low} to {high} a query"


def _by_set(answers: Sequence[Answer]) -> list[str]:
    settled = sum(own.settled for own in answers)
    said = [f"The leader is settled on {settled} of {len(answers)} sets; each set has its own answer below."]
    helped = [own for own in answers if own.gain and own.gain.p_corrected < 0.05 and own.gain.difference.mean > 0]
    staged = [own for own in answers if own.first_stage is not None]
    if staged:
        said.append(
            "The leader of the set is better than the first stage, and that is settled, "
            f"on {len(helped)} of {len(staged)} sets."
        )
    return said


def _lead(evaluation: Evaluation, best: str, second: str) -> Interval | None:
    """The mean over sets of the difference of two models, as `means_over_sets` takes means."""
    metric = evaluation.metrics[0]
    rows = {(row.set, row.name): row for row in evaluation.rows if row.kind == "model"}
    differences = []
    for judged in evaluation.sets:
        pair = (measured(rows[judged.name, name].per_query[metric]) for name in (best, second))
        values = [one - other for one, other in zip(*pair, strict=True)]
        figures = {metric: Interval(fmean(values), min(values), max(values))}
        differences.append(Row(judged.name, "difference", "model", {metric: values}, figures))
    return means_over_sets(Evaluation(evaluation.sets, (metric,), tuple(differences), ()))[0].figure


def _line(evaluation: Evaluation, sections: Sequence[Section], mean: Mean) -> OverallLine:
    metric = evaluation.metrics[0]
    total = (
        (Cell(value(mean.figure.mean), mean.figure.mean, bounds(mean.figure)), False)
        if mean.figure
        else (Cell("", None, f"no figure of {len(mean.missing)}"), False)
    )
    cells = [total]
    for section in sections:
        row = next((row for row in section.rows if _is(row, mean) and row.figures), None)
        best = row is not None and row is section.answer.leader
        figure = row.figures[metric] if row else None
        cells.append((Cell(value(figure.mean), figure.mean, bounds(figure)) if figure else Cell(""), best))
    return OverallLine(mean.name, mean.kind, tuple(cells), mean.kind in FIXED)


def _is(row: Row, mean: Mean) -> bool:
    return row.kind == mean.kind and (row.kind != "model" or row.name == mean.name)
