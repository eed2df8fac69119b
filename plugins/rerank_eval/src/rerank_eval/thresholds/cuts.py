"""``--threshold``: the cut of each model's score that reaches a precision or a recall, on each set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rerank_core import InputError
from rerank_core.measures import Threshold, threshold
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.thresholds.labelled_scores import check_has_scores, labelled_scores, run_of

__all__ = ["Cut", "Target", "cuts_of", "parse_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a cut must reach on the labelled documents."""

    of: Literal["precision", "recall"]
    value: float

    def __str__(self) -> str:
        return f"{self.of}={self.value:g}"


@dataclass(frozen=True, slots=True)
class Cut:
    """The cut of one model on one set.

    Attributes:
        threshold: None where ``reason`` says why there is none.
        unjudged: share of candidates without a judgement, which count as not relevant.
    """

    set: str
    model: str
    target: Target
    threshold: Threshold | None
    reason: str | None = None
    unjudged: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The cut as a JSON object."""
        return asdict(self)


def parse_target(text: str) -> Target:
    """``precision=0.9`` or ``recall=0.9``.

    >>> parse_target("recall=0.95")
    Target(of='recall', value=0.95)

    Raises:
        InputError: another text, or a number that is not above 0 and up to 1.
    """
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if name == "precision" and 0 < value <= 1:
        return Target("precision", value)
    if name == "recall" and 0 < value <= 1:
        return Target("recall", value)
    raise InputError(
        f"--threshold is {text!r}; it must be precision=VALUE or recall=VALUE, with a value above 0 and up to 1, such "
        "as precision=0.9"
    )


def cuts_of(evaluation: Evaluation, targets: Iterable[Target], *, seed: int = 0) -> list[Cut]:
    """The cut of each model on each set for each target; where there is none, the reason."""
    return [
        _cut(evaluation, model, target, number, seed)
        for target in targets
        for number in range(len(evaluation.sets))
        for model in evaluation.models
    ]


def _cut(evaluation: Evaluation, model: str, target: Target, number: int, seed: int) -> Cut:
    judged = evaluation.sets[number]
    unjudged = 1 - evaluation.judged_share.get(judged.name, 1.0)
    try:
        run = run_of(evaluation, judged, model)
        check_has_scores(run)
        scored = labelled_scores(judged, run)
        found = threshold(
            scored,
            precision=target.value if target.of == "precision" else None,
            recall=target.value if target.of == "recall" else None,
            seed=seed,
        )
    except InputError as error:
        return Cut(judged.name, model, target, None, str(error), unjudged)
    return Cut(judged.name, model, target, found, None, unjudged)
