"""The parts of the report about one set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from markupsafe import Markup

from rerank_eval.figures.depth import depth_curve
from rerank_eval.figures.evaluation import Evaluation, Row
from rerank_eval.figures.orders import first_stage_order
from rerank_eval.figures.query_values import measured
from rerank_eval.report.charts.by_model import depth_lines, harm_bars, length_points, position_bars
from rerank_eval.report.charts.drawing import colour
from rerank_eval.report.charts.of_scores import reliability_diagram, score_histogram
from rerank_eval.report.charts.trade_off import trade_off
from rerank_eval.report.labels import Labels
from rerank_eval.report.rows.answer import Answer, answer
from rerank_eval.report.rows.lengths import LengthLoss, length_loss
from rerank_eval.report.rows.pareto import Point, pareto
from rerank_eval.report.rows.passages import FirstAgainstMax, Positions, first_against_max, positions
from rerank_eval.report.rows.scores import ScoreFigures, score_figures
from rerank_eval.report.rows.telling import ShownQuery, disputed, harmed, scores_of
from rerank_eval.report.table import Table, table_of
from rerank_eval.report.wording import count, share, tie_rule
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["CHARACTERS", "MOST_QUERIES", "Harms", "ModelScores", "Section"]

MOST_QUERIES = 12
"""Queries of a list that are shown with texts."""

CHARACTERS = 600
"""Characters that are shown of a document."""


@dataclass(frozen=True, slots=True)
class Harms:
    """What a model did to the order of the first stage.

    Attributes:
        better, equal, worse: numbers of queries.
        loss: mean loss of the metric over the queries that became worse.
        shown: the worst of them, with texts.
    """

    better: int
    equal: int
    worse: int
    loss: float
    shown: tuple[ShownQuery, ...]


@dataclass(frozen=True, slots=True)
class ModelScores:
    """The raw scores of a model: figures and plots, which are empty where ``figures.reason`` says why."""

    figures: ScoreFigures
    histogram: Markup
    reliability: Markup


class Section:
    """A set of an evaluation; each part is computed when the page asks for it, and once.

    Args:
        number: of the set in the evaluation, for anchors.
    """

    def __init__(self, evaluation: Evaluation, judged: JudgedSet, number: int, labels: Labels) -> None:
        self.evaluation, self.judged, self.number, self.labels = evaluation, judged, number, labels
        self.metric = evaluation.metrics[0]
        self.rows = evaluation.rows_of(judged.name)
        self.models = [row for row in self.rows if row.kind == "model" and row.figures]
        self.stage = next((row for row in self.rows if row.kind == "first stage"), None)
        self._keys = (labels.numbers, labels.letters)

    @cached_property
    def answer(self) -> Answer:
        return answer(self.evaluation, self.judged.name)

    @cached_property
    def table(self) -> Table:
        return table_of(self.evaluation, self.judged.name, self.labels)

    @cached_property
    def measured(self) -> int:
        """Queries that the first metric measures."""
        values = next((row.per_query[self.metric] for row in self.rows if row.figures), ())
        return len(measured(values))

    @cached_property
    def basis(self) -> str:
        """What figures of this set rest on: number of queries, interval and tie rule."""
        level = next((row.figures[self.metric].level for row in self.rows if row.figures), 0.95)
        return (
            f"{count(self.measured)} queries; [ ] and vertical lines: {100 * level:.0f} % bootstrap "
            f"interval over queries; {tie_rule(self.metric)}"
        )

    @cached_property
    def short_basis(self) -> str:
        """The same for figures without intervals."""
        return f"{count(self.measured)} queries; no interval; {tie_rule(self.metric)}"

    @cached_property
    def basis_of_loss(self) -> str:
        """The same for losses."""
        return (
            f"relevant documents of {count(len(self.judged.queries))} queries; vertical lines: 95 % bootstrap interval "
            "over queries; an equal score counts as a loss"
        )

    @cached_property
    def notes(self) -> list[str]:
        """What the reader of the set met, and the share of judged candidates."""
        share_judged = self.evaluation.judged_share.get(self.judged.name, 1.0)
        lines = [f"{share(share_judged)} of candidates are judged"] if share_judged < 1 else []
        if self.measured < len(self.judged.queries):
            lines.append(f"{self.metric} leaves out {count(len(self.judged.queries) - self.measured)} queries")
        return self.judged.facts.notes() + lines

    @cached_property
    def candidates(self) -> str:
        """How many candidates a query has: ``100`` or ``2 to 30``."""
        numbers = [len(query.candidates) for query in self.judged.queries]
        least, most = min(numbers), max(numbers)
        return count(most) if least == most else f"{count(least)} to {count(most)}"

    @cached_property
    def cut(self) -> dict[str, float]:
        """For each model that did not read all text: the share of documents that it cut."""
        return {row.name: row.truncated for row in self.models if row.truncated}

    @cached_property
    def points(self) -> list[Point]:
        return pareto(self.rows, self.metric)

    @cached_property
    def trade_off(self) -> list[tuple[str, Markup]]:
        stage = self.stage.figures[self.metric].mean if self.stage else None
        return trade_off(self.points, *self._keys, self.metric, stage)

    @cached_property
    def curves(self) -> Mapping[str, Mapping[int, float]]:
        """Quality by depth; empty without a first stage."""
        if not self.models or first_stage_order(self.judged) is None:
            return {}
        return {row.name: depth_curve(self.judged, scores_of(self.judged, row), self.metric) for row in self.models}

    @cached_property
    def depth(self) -> Markup:
        return depth_lines(self.curves, *self._keys, self.metric) if self.curves else Markup()

    @cached_property
    def scores(self) -> dict[str, ModelScores]:
        found = {}
        for row in self.models:
            figures = score_figures(self.judged, row)
            letter, tint = self.labels.letters[row.name], colour(self.labels.numbers[row.name])
            found[row.name] = ModelScores(
                figures,
                score_histogram(figures.bars, letter) if figures.bars else Markup(),
                reliability_diagram(figures.reliability, letter, tint) if figures.reliability else Markup(),
            )
        return found

    @cached_property
    def positions(self) -> list[Positions]:
        return positions(self.judged, self.models)

    @cached_property
    def position_bars(self) -> Markup:
        return position_bars(self.positions, self.labels.letters) if self.positions else Markup()

    @cached_property
    def first_against_max(self) -> list[FirstAgainstMax]:
        return first_against_max(self.models, self.metric)

    @cached_property
    def lengths(self) -> list[LengthLoss]:
        return length_loss(self.judged, self.models)

    @cached_property
    def length_points(self) -> Markup:
        return length_points(self.lengths, *self._keys) if self.lengths else Markup()

    @cached_property
    def harm_bars(self) -> Markup:
        if self.stage is None or not self.models:
            return Markup()
        counts = {name: (own.better, own.equal, own.worse) for name, own in self.harms.items()}
        return harm_bars(counts, self.labels.letters)

    @cached_property
    def harms(self) -> dict[str, Harms]:
        """For each model what it did to the first stage; empty without a first stage."""
        return {row.name: self._harms(self.stage, row) for row in self.models} if self.stage else {}

    def _harms(self, stage: Row, row: Row) -> Harms:
        worse, shown = harmed(self.judged, self.rows, row, self.metric, limit=MOST_QUERIES, characters=CHARACTERS)
        before, after = measured(stage.per_query[self.metric]), measured(row.per_query[self.metric])
        better = sum(new > old for old, new in zip(before, after, strict=True))
        loss = sum(one.before - one.after for one in worse) / len(worse) if worse else 0.0
        return Harms(better, len(before) - better - len(worse), len(worse), loss, tuple(shown))

    @cached_property
    def disputed(self) -> Sequence[ShownQuery]:
        """The queries about which models disagree most."""
        return disputed(self.judged, self.rows, self.metric, limit=MOST_QUERIES, characters=CHARACTERS)
