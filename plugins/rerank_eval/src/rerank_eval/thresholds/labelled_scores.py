"""The raw scores of a run with the labels of the documents, which thresholds and calibrations are fitted to."""

from __future__ import annotations

import math

from rerank_core import InputError
from rerank_core.measures import Scored
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_run import ModelRun, RunFacts
from rerank_eval.sets.judged_set import JudgedSet

__all__ = ["check_has_scores", "check_space", "labelled_scores", "run_of"]


def labelled_scores(judged: JudgedSet, run: ModelRun) -> list[Scored]:
    """For each query whose call succeeded, the score and the label of each candidate.

    A document is relevant from a gain of 0.5, and one without a judgement is not, as in metrics.
    """
    return [
        [(score, math.floor(gain + 0.5)) for score, gain in zip(own.scores, query.gains, strict=True)]
        for query, own in zip(judged.queries, run.queries, strict=True)
        if own.error is None
    ]


def check_has_scores(run: ModelRun) -> None:
    """Refuse a run without scores that mean the same for every query.

    Raises:
        InputError: a run that did not reach its end, a listwise model or a cascade.
    """
    if run.stopped is not None:
        raise InputError(f"{run.model!r} has no scores: {run.reason}")
    check_space(run.model, run.facts)


def check_space(model: str, facts: RunFacts) -> None:
    """Refuse a model whose numbers cannot be compared between queries.

    Raises:
        InputError: a listwise model or a cascade.
    """
    if facts.score_space == "rank":
        raise InputError(
            f"{model!r} is listwise or a cascade: it orders the documents of a query, and its numbers cannot be "
            "compared between queries. Take a model with scores, or leave the cascade out"
        )


def run_of(evaluation: Evaluation, judged: JudgedSet, model: str) -> ModelRun:
    """The run of a model on a set.

    Raises:
        InputError: there is none.
    """
    for row in evaluation.rows:
        if (row.kind, row.set, row.name) == ("model", judged.name, model) and row.run is not None:
            return row.run
    raise InputError(f"{model!r} did not rank the set {judged.name!r}")
