"""From raw scores to a `Ranking`: sort, activation, ``top_k``. The activation never changes the order."""

from __future__ import annotations

import math

from rerank_core.errors import InputError
from rerank_core.options import CallOptions
from rerank_core.pipeline.outcomes import Scored
from rerank_core.planning.row_plan import Job
from rerank_core.spec import ModelSpec
from rerank_core.types import Hit, Ranking, ScoreSpace

__all__ = ["activation_and_space", "ranking_of", "shown_as", "sigmoid"]


def sigmoid(x: float) -> float:
    """The logistic function in float64, without overflow.

    >>> sigmoid(0.0), sigmoid(-1000.0)
    (0.5, 0.0)
    """
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    z = math.exp(x)
    return z / (1.0 + z)


def activation_and_space(spec: ModelSpec, space: ScoreSpace, activation: str) -> tuple[str, ScoreSpace]:
    """The activation to apply to scores in ``space``, and the space of the scores after it.

    Raises:
        InputError: the activation is a sigmoid and the scores are no logits.
    """
    chosen = spec.activation if activation == "default" else activation
    if chosen == "none":
        return chosen, space
    if space != "logit":
        raise InputError(
            f"activation={activation!r} needs logits, and {spec.name!r} gives {space!r} scores; use 'none'"
        )
    return chosen, "probability"


def shown_as(spec: ModelSpec, space: ScoreSpace, call: CallOptions, loaded: str) -> tuple[str, ScoreSpace]:
    """The activation of a call, and the space of the scores that it shows.

    Args:
        space: the space of the model's raw scores.
        loaded: the activation that was given to ``load``.

    Raises:
        InputError: the activation is a sigmoid and the scores are no logits, or scores are combined, which an
            activation would have no effect on.
    """
    if call.combine is None:
        return activation_and_space(spec, space, call.activation or loaded)
    for given, where in (
        (call.activation or "none", ""),
        ("none" if loaded == "default" else loaded, ", given to load,"),
    ):
        if given != "none":
            raise InputError(
                f"activation={given!r}{where} has no effect with combine, which takes the models' raw scores; leave "
                "one of them out"
            )
    return "none", "combined"


def ranking_of(model: str, job: Job, scored: Scored, call: CallOptions, activation: str, space: ScoreSpace) -> Ranking:
    """Sort by (stage, score), equal scores in the caller's order; then apply ``min_score`` and ``top_k``.

    Args:
        space: the space of the scores after the activation.
    """
    if call.min_score is not None and any(scored.stages):
        raise InputError(
            f"min_score={call.min_score!r} cannot be applied after a cascade, whose stages differ in score scale; "
            "leave min_score out"
        )
    shown = [sigmoid(score) if activation == "sigmoid" else score for score in scored.scores]
    order = sorted(range(len(shown)), key=lambda doc: (-scored.stages[doc], -scored.scores[doc], doc))
    kept = [doc for doc in order if call.min_score is None or shown[doc] >= call.min_score]
    hits = tuple(
        Hit(
            document=job.documents[doc],
            score=shown[doc],
            rank=rank,
            index=doc,
            passages=scored.passages[doc],
            truncated=scored.truncated[doc],
            scores=scored.all_scores[doc],
            stage=scored.stages[doc],
        )
        for rank, doc in enumerate(kept[: call.top_k], start=1)
    )
    return Ranking(
        query=job.query,
        hits=hits,
        model=model,
        score_space=space,
        activation=activation,
        usage=scored.usage,
        query_truncated=scored.query_truncated,
        statistics=scored.statistics,
        _scores=tuple(shown),
    )
