"""How far a judge agrees with hand-made labels, pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rerank_core.measures import Interval

__all__ = ["Agreement", "LabelledPair", "agreement_of"]

_DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class LabelledPair:
    """A pair with a hand-made label and the judge's.

    Attributes:
        query: number of the query.
        label, grade: as they are; relevance is decided by their scales.
    """

    query: int
    label: float
    grade: float


@dataclass(frozen=True)
class Agreement:
    """Agreement on the pairs that have both labels.

    A document counts as relevant from half of the highest value of the scale: 1 of 0 and 1, 1 of 0 to 2, 2 of 0 to 3.

    Attributes:
        share: of pairs on which both say relevant, or both not.
        kappa: Cohen's kappa of relevant and not (1960): the share beyond what chance gives. The bounds are those of a
            bootstrap over queries. None where one side knows only one of the two.
        weighted_kappa: of the grades, with quadratic weights; None where their scales differ or have two values.
        table: number of pairs by (label, grade).
    """

    pairs: int
    queries: int
    share: float
    kappa: Interval | None
    weighted_kappa: float | None
    table: Mapping[tuple[float, float], int]

    def notes(self) -> list[str]:
        """A sentence about the agreement."""
        kappa = "undefined, because one side has one class only" if self.kappa is None else _figure(self.kappa)
        line = f"on {self.pairs:,} labelled pairs the judge agrees on {self.share:.0%}; Cohen's kappa is {kappa}"
        weighted = "" if self.weighted_kappa is None else f", weighted by grades {self.weighted_kappa:.2f}"
        return [line + weighted]


def _figure(figure: Interval) -> str:
    return f"{figure.mean:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def agreement_of(
    pairs: Sequence[LabelledPair], *, label_top: float, grade_top: float, seed: int = 0
) -> Agreement | None:
    """The agreement on the pairs; None where there are none.

    Args:
        label_top, grade_top: the highest values of both scales.

    Raises:
        MissingDependencyError: scikit-learn is not installed.
    """
    if not pairs:
        return None
    labels = [pair.label >= label_top / 2 for pair in pairs]
    grades = [pair.grade >= grade_top / 2 for pair in pairs]
    table = Counter((pair.label, pair.grade) for pair in pairs)
    weighted = None
    values = {value for pair in table for value in pair}
    if label_top == grade_top and grade_top > 1 and all(value == int(value) for value in values) and len(values) > 1:
        from sklearn.metrics import cohen_kappa_score

        whole = [[int(pair.label) for pair in pairs], [int(pair.grade) for pair in pairs]]
        weighted = float(cohen_kappa_score(*whole, weights="quadratic"))
    return Agreement(
        len(pairs),
        len({pair.query for pair in pairs}),
        sum(map(bool.__eq__, labels, grades)) / len(pairs),
        _kappa(labels, grades, [pair.query for pair in pairs], seed),
        weighted,
        dict(sorted(table.items())),
    )


def _kappa(labels: Sequence[bool], grades: Sequence[bool], queries: Sequence[int], seed: int) -> Interval | None:
    """Kappa with the bounds of a bootstrap over queries; draws in which both sides know one class only are left out."""
    if len(set(labels)) < 2 or len(set(grades)) < 2:
        return None
    import numpy as np
    from sklearn.metrics import cohen_kappa_score

    numbers = {query: number for number, query in enumerate(dict.fromkeys(queries))}
    # For each query its pairs by (label, grade): [queries, 4].
    tables = np.zeros((len(numbers), 4))
    np.add.at(tables, ([numbers[query] for query in queries], 2 * np.array(labels) + np.array(grades)), 1)
    random = np.random.default_rng(seed)
    drawn = random.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=_DRAWS) @ tables
    neither, only_grade, only_label, both = (drawn / drawn.sum(axis=1, keepdims=True)).T
    by_chance = (only_label + both) * (only_grade + both) + (neither + only_grade) * (neither + only_label)
    usable = by_chance < 1
    kappas = (neither + both - by_chance)[usable] / (1 - by_chance)[usable]
    low, high = np.quantile(kappas, [0.025, 0.975])
    return Interval(float(cohen_kappa_score(labels, grades)), float(low), float(high))
