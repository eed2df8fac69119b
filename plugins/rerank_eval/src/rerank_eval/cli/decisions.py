"""The flags of the command that lead from figures to a decision: ``--recommend``, ``--threshold``, ``--calibrate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core import InputError
from rerank_core.cli.shared import note, show, table
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_choice import ModelChoice
from rerank_eval.runs.model_run import RunFacts
from rerank_eval.sets.judged_set import JudgedSet

if TYPE_CHECKING:
    from rerank_core.measures import Interval
    from rerank_eval.advice.advice import Advice
    from rerank_eval.thresholds.calibrate import Calibrated
    from rerank_eval.thresholds.cuts import Cut

__all__ = ["DecisionFlags", "Decisions"]


@dataclass(frozen=True)
class DecisionFlags:
    """What is decided from the figures.

    Raises:
        InputError: a threshold that is none, several models for one calibration, or a folder that is missing.
    """

    choices: Sequence[ModelChoice]
    recommend: bool = False
    thresholds: Sequence[str] = ()
    calibrate: Path | None = None

    def __post_init__(self) -> None:
        from rerank_eval.thresholds.cuts import parse_target

        for text in self.thresholds:
            parse_target(text)
        if self.calibrate is None:
            return
        if len(self.choices) != 1:
            raise InputError(
                f"--calibrate writes a file for one model, and {len(self.choices)} are given; give one --model"
            )
        if not self.calibrate.absolute().parent.is_dir() or self.calibrate.is_dir():
            raise InputError(f"--calibrate is {str(self.calibrate)!r}; it must be a file in a folder that exists")

    def check(self, facts: RunFacts, sets: Sequence[JudgedSet]) -> None:
        """Refuse a model that cannot be calibrated, before it ranks.

        Raises:
            InputError: see `thresholds.calibrate.check_can_calibrate`.
        """
        if self.calibrate is not None:
            from rerank_eval.thresholds.calibrate import check_can_calibrate

            check_can_calibrate(self.choices[0].label, facts, sets)

    def decide(self, evaluation: Evaluation, *, budget_ms: float | None, seed: int) -> Decisions:
        """Compute what was asked for, and write the file of the calibration.

        Raises:
            InputError: a model that cannot be calibrated.
        """
        advice: Advice | None = None
        cuts: list[Cut] = []
        calibrated: Calibrated | None = None
        if self.recommend:
            from rerank_eval.advice.advise import advise

            advice = advise(evaluation, budget_ms=budget_ms)
        if self.thresholds:
            from rerank_eval.thresholds.cuts import cuts_of, parse_target

            cuts = cuts_of(evaluation, [parse_target(text) for text in self.thresholds], seed=seed)
        if self.calibrate is not None:
            from rerank_core import load
            from rerank_eval.thresholds.calibrate import calibrate, write

            (choice,) = self.choices
            calibrated = calibrate(evaluation, choice.label, seed=seed)
            with load(choice.source, **choice.options) as reranker:
                write(self.calibrate, calibrated, reranker)
        return Decisions(advice, cuts, calibrated, self.calibrate)


@dataclass(frozen=True)
class Decisions:
    """What was decided; parts that were not asked for are None or empty."""

    advice: Advice | None
    cuts: Sequence[Cut]
    calibrated: Calibrated | None
    path: Path | None

    def to_json(self) -> dict[str, Any]:
        """The parts that were asked for: ``advice``, ``thresholds``, ``calibration``."""
        data: dict[str, Any] = {}
        if self.advice is not None:
            data["advice"] = self.advice.to_json()
        if self.cuts:
            data["thresholds"] = [cut.to_json() for cut in self.cuts]
        if self.calibrated is not None:
            data["calibration"] = {"file": str(self.path), **self.calibrated.to_json()}
        return data

    def show(self) -> None:
        """Print them on stdout, after the tables."""
        if self.advice is not None:
            _say(self.advice.sentences)
        if self.cuts:
            self._show_cuts()
        if self.calibrated is not None:
            _say(_of_calibration(self.calibrated, self.path))

    def _show_cuts(self) -> None:
        columns = ("threshold", "set", "model", "score from", "precision", "recall", "kept")
        lines = []
        for cut in self.cuts:
            found, start = cut.threshold, [str(cut.target), cut.set, cut.model]
            if found is None:
                lines.append([*start, "none", "", "", ""])
                note(f"{cut.model} has no cut for {cut.target} on {cut.set}: {cut.reason}")
                continue
            kept = f"{found.kept:,} of {found.documents:,}"
            lines.append([*start, f"{found.cut:.6g}", _figure(found.precision), _figure(found.recall), kept])
        _say([])
        show(table(columns, lines, right=columns[3:], wrap=columns))
        note(
            "documents with this raw score or more are kept; recall is of the relevant candidates; [ ] is the interval "
            "of 95 % of this cut on other queries"
        )
        unjudged = {cut.set: cut.unjudged for cut in self.cuts if cut.unjudged > 0}
        for name, share in unjudged.items():
            note(f"{name}: {share:.0%} of the candidates have no judgement and count as not relevant")


def _of_calibration(calibrated: Calibrated, path: Path | None) -> list[str]:
    method, facts = calibrated.map.method, calibrated.fitted
    tried = ", ".join(f"{name} {one.ece:.4f}" for name, one in calibrated.after.items() if name != method)
    fit = (
        f"{path}: probabilities of {calibrated.model} by {method}, fitted to {facts['documents']:,} documents of "
        f"{facts['queries']:,} queries, {facts['relevant']:,} of them relevant."
    )
    error = (
        f"Expected calibration error {calibrated.before.ece:.4f} before and {calibrated.after[method].ece:.4f} after, "
        f"on queries that the fit has not seen{f' ({tried})' if tried else ''}."
    )
    without = "; ".join(f"{name}: {reason}" for name, reason in calibrated.refused.items())
    return [fit, error, *([f"Not fitted: {without}."] if without else [])]


def _figure(figure: Interval) -> str:
    return f"{figure.mean:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _say(lines: Sequence[str]) -> None:
    """An empty line and the lines, in which brackets are no markup."""
    from rich.text import Text

    show(Text("\n".join(["", *lines])))
