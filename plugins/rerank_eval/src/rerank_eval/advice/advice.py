"""`Advice`: the recommended model with its reasons, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from rerank_core.measures import Interval

__all__ = ["Advice", "FusionAdvice", "Setting", "TooSlow", "Verdict", "Versus"]

Verdict = Literal["better", "as good", "open"]


@dataclass(frozen=True, slots=True)
class Versus:
    """The choice against another model within the budget, or against the first stage.

    Attributes:
        difference: mean of ``choice - other`` over queries, with the bounds of its interval.
        p_corrected: of the paired randomisation test, after Holm's correction.
        p_loss: of a one-sided paired t-test that the choice loses the margin or more, after Bonferroni's correction.
        verdict: the choice is shown to be ``better``; it is shown to be ``as good``, which is a loss below the margin;
            or neither is shown (``open``).
        more_queries: where it is open, further queries like these with which one of both would be shown with a
            probability of 80 %, if the difference so far is the true one.
        median_ms: of the other, on its slowest set.
    """

    other: str
    difference: Interval
    p_corrected: float
    p_loss: float
    verdict: Verdict
    more_queries: int | None
    median_ms: float


@dataclass(frozen=True, slots=True)
class TooSlow:
    """A model over the budget.

    Attributes:
        median_ms: on its slowest set; None where it was dropped before its end.
        difference: mean of ``it - choice``; None without figures or without a choice.
        depth: number of candidates that it could re-rank within the budget, its time being in proportion to them, where
            it is then better than the choice on average; else None.
        mean_at_depth: its mean if it re-ranks so many.
    """

    name: str
    median_ms: float | None
    difference: Interval | None = None
    depth: int | None = None
    mean_at_depth: float | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """An option of the choice, or the number of candidates that it gets.

    Attributes:
        name: ``longdoc``, ``candidates``, ``dtype`` or ``cascade``.
        value: the recommended value, written as on the command line.
        measured: whether runs of this evaluation show it; otherwise ``text`` says what to run.
    """

    name: str
    value: str
    measured: bool
    text: str


@dataclass(frozen=True, slots=True)
class FusionAdvice:
    """The best fusion of two models on a set.

    Attributes:
        difference: to the better one of the two, with an interval that is corrected for the number of fusions.
        beats: whether the fusion is shown to be better than that one, and is better than every single model on average.
    """

    set: str
    first: str
    second: str
    better: str
    difference: Interval
    beats: bool


@dataclass(frozen=True)
class Advice:
    """What an evaluation recommends; `rerank_eval.advice.advise.advise` states the rule.

    Attributes:
        metric: the first metric of the evaluation; means are over sets, each of which counts the same.
        queries: number of judged queries of all sets.
        budget_ms: the longest median time of a query; None without a limit.
        margin: a smaller difference of means counts as equal quality.
        choice: the model's label, or the name of the first stage; None where nothing was measured within the budget.
        kind: whether a model is recommended, or no re-ranking.
        mean, median_ms: of the choice.
        settled: whether the choice is better than, or at least as good as, every other model within the budget.
        more_queries: further judged queries that would settle it; 0 if it is settled, None where no number would.
        versus: the other models within the budget, the best first.
        missing: models without figures on every set that were not dropped for the budget, with the reason.
        sentences: all of this in words.
    """

    metric: str
    queries: int
    budget_ms: float | None
    margin: float
    choice: str | None = None
    kind: Literal["model", "first stage"] | None = None
    mean: float | None = None
    median_ms: float | None = None
    settled: bool = False
    more_queries: int | None = None
    versus: tuple[Versus, ...] = ()
    too_slow: tuple[TooSlow, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    settings: tuple[Setting, ...] = ()
    fusions: tuple[FusionAdvice, ...] = ()
    sentences: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The advice in a few words."""
        if self.choice is None:
            return "No model can be recommended"
        headline = "Do not re-rank" if self.kind == "first stage" else f"Use {self.choice}"
        return headline if self.settled else f"{headline} (not settled)"

    def to_json(self) -> dict[str, Any]:
        """The advice as a JSON object."""
        return asdict(self)
