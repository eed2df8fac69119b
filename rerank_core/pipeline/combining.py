"""Several models' scores of one job, and the first stage's, as one: late fusion by `Combine`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_core.combine import Combine, combined_scores
from rerank_core.errors import InputError
from rerank_core.pipeline.outcomes import Scored
from rerank_core.planning.row_plan import Job
from rerank_core.scorer import AnyScorer, cascades
from rerank_core.types import ScoreSpace, Usage

__all__ = ["Part", "check_method", "combined", "distinct_names"]

COMBINED, FIRST_STAGE = "combined", "first_stage"
"""Keys of ``Hit.scores`` that are no model's name."""


@dataclass(frozen=True)
class Part:
    """A model's name, its scores of a job, and its weight."""

    name: str
    scored: Scored
    weight: float = 1.0


def check_method(combine: Combine, model: str, scorer: AnyScorer, space: ScoreSpace) -> None:
    """Refuse a weighted mean of scores that cannot be compared with each other.

    Args:
        space: the space of the model's raw scores.

    Raises:
        InputError: the model gives ranks, or scores of several stages.
    """
    if combine.method == "weighted" and (space == "rank" or cascades(scorer)):
        kind = "an order without scores" if space == "rank" else "scores of different layers (a cascade)"
        raise InputError(
            f"Combine.weighted takes a mean of scores, and {model!r} gives {kind}; use Combine.rrf(), which reads ranks"
        )


def distinct_names(names: Sequence[str]) -> list[str]:
    """The models' keys in ``Hit.scores``: their names; a name that is taken already gets a number.

    >>> distinct_names(["mini", "mini", "combined"])
    ['mini', 'mini#2', 'combined#2']
    """
    taken = {COMBINED, FIRST_STAGE}
    keys = []
    for name in names:
        key, number = name, 1
        while key in taken:
            number += 1
            key = f"{name}#{number}"
        taken.add(key)
        keys.append(key)
    return keys


def combined(parts: Sequence[Part], job: Job, combine: Combine) -> Scored:
    """The job's combined scores. Passages are the first model's, since every model has windows of its own."""
    names = distinct_names([part.name for part in parts])
    scored = [part.scored for part in parts]
    # Documents of a later stage of a cascade rank above those of an earlier one.
    ranked = combine.method == "rrf"
    lists = [list(zip(one.stages, one.scores, strict=True)) if ranked else one.scores for one in scored]
    scores = combined_scores(combine, lists, [part.weight for part in parts], job.first_stage)
    all_scores = []
    for doc, score in enumerate(scores):
        by_name = {COMBINED: score}
        for name, one in zip(names, scored, strict=True):
            by_name[name] = one.scores[doc]
            others = list(one.all_scores[doc].items())[1:]
            by_name.update({f"{name}:{other}": value for other, value in others})
        first = None if job.first_stage is None else job.first_stage[doc]
        all_scores.append(by_name if first is None else {**by_name, FIRST_STAGE: first})
    tokens = [one.usage.tokens for one in scored]
    return Scored(
        scores=scores,
        all_scores=all_scores,
        passages=scored[0].passages,
        truncated=[_any(flags) for flags in zip(*(one.truncated for one in scored), strict=True)],
        stages=[0] * len(scores),
        usage=Usage(
            tokens=sum(count for count in tokens if count is not None) if None not in tokens else None,
            passages=sum(one.usage.passages for one in scored),
            seconds=sum(one.usage.seconds for one in scored),
        ),
        query_truncated=any(one.query_truncated for one in scored),
        statistics=scored[0].statistics
        if len(parts) == 1
        else {name: one.statistics for name, one in zip(names, scored, strict=True) if one.statistics},
    )


def _any(flags: Sequence[bool | None]) -> bool | None:
    """Whether a model cut the document; None where none did and one cannot tell."""
    return True if True in flags else None if None in flags else False
