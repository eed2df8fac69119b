"""`Combine`: how the scores of several rankings of the same documents become one score (late fusion)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rerank_core.errors import InputError, one_of, short

__all__ = ["Combine", "combined_scores", "finite_number"]


@dataclass(frozen=True)
class Combine:
    """How rankings of the same documents are combined; made by `rrf` or `weighted`.

    Attributes:
        method: ``rrf`` reads ranks, ``weighted`` reads scores.
        k: the constant of ``rrf``; None otherwise.
        first_stage: the share of the first stage in ``weighted``, from 0 (not used) to 1 (it alone ranks); None
            otherwise.
        normalize: how ``weighted`` brings the scores of a list to one scale: ``zscore`` or ``minmax``; None otherwise.
        field: the key of ``Document.metadata`` that holds the first stage's score where ``first_stage=`` is not given.
        lower_is_better: whether the first stage's numbers are distances.
        missing: ``error``, or ``worst``: a document without a score of the first stage counts as if it had the worst
            score of the query's documents.
    """

    method: Literal["rrf", "weighted"]
    k: float | None = None
    first_stage: float | None = None
    normalize: Literal["zscore", "minmax"] | None = None
    field: str = "score"
    lower_is_better: bool = False
    missing: Literal["error", "worst"] = "error"

    @classmethod
    def rrf(
        cls,
        k: float = 60,
        *,
        field: str = "score",
        lower_is_better: bool = False,
        missing: Literal["error", "worst"] = "error",
    ) -> Combine:
        """Reciprocal rank fusion: a document's score is the sum of ``weight / (k + rank)`` over the rankings.

        The first stage has weight 1, and so has a single model. Documents with equal scores share the best of their
        ranks (1, 2, 2, 4).

        Source: Cormack, Clarke & Büttcher, *Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
        Methods*, SIGIR 2009, with k = 60. The paper does not say how equal scores are ranked.

        Raises:
            InputError: ``k`` is no number of at least 0, or another argument is invalid.
        """
        return cls("rrf", k=k, field=field, lower_is_better=lower_is_better, missing=missing)

    @classmethod
    def weighted(
        cls,
        first_stage: float = 0.2,
        normalize: Literal["zscore", "minmax"] = "zscore",
        *,
        field: str = "score",
        lower_is_better: bool = False,
        missing: Literal["error", "worst"] = "error",
    ) -> Combine:
        """A weighted mean of normalized scores: ``first_stage`` is the first stage's share, the models have the rest.

        ``zscore`` subtracts the mean over the query's documents and divides by the (population's) standard deviation;
        ``minmax`` maps them to 0 to 1. Scores that are all equal become 0 (``zscore``) or 0.5 (``minmax``).

        Source: Bruch, Gai & Ingber, *An Analysis of Fusion Functions for Hybrid Retrieval*, TOIS 2023.

        Raises:
            InputError: ``first_stage`` is no number from 0 to 1, or another argument is invalid.
        """
        return cls(
            "weighted",
            first_stage=first_stage,
            normalize=normalize,
            field=field,
            lower_is_better=lower_is_better,
            missing=missing,
        )

    def __post_init__(self) -> None:
        one_of(self.method, ("rrf", "weighted"), "method")
        unused = {"rrf": ("first_stage", "normalize"), "weighted": ("k",)}[self.method]
        for name in unused:
            if getattr(self, name) is not None:
                raise InputError(
                    f"{name}={short(getattr(self, name))} has no effect with {self.method!r}; leave it out"
                )
        if self.method == "rrf":
            k = finite_number(self.k)
            if k is None or k < 0:
                raise InputError(f"k is {short(self.k)}; it must be a number of at least 0, such as 60")
            object.__setattr__(self, "k", k)
        else:
            share = finite_number(self.first_stage)
            if share is None or not 0 <= share <= 1:
                raise InputError(
                    f"first_stage is {short(self.first_stage)}; in a Combine it is the first stage's share, a number "
                    "from 0 to 1. Its scores are an argument of rerank"
                )
            object.__setattr__(self, "first_stage", share)
            one_of(self.normalize, ("zscore", "minmax"), "normalize")
        one_of(self.missing, ("error", "worst"), "missing")
        if not isinstance(self.field, str) or not self.field:
            raise InputError(f"field is {short(self.field)}; it must be a key of the documents' metadata")
        if not isinstance(self.lower_is_better, bool):
            raise InputError(f"lower_is_better is {short(self.lower_is_better)}; it must be True or False")


def finite_number(value: Any) -> float | None:
    """``value`` as a float, or None where it is no finite number; texts and truth values are no numbers."""
    if value is None or isinstance(value, (str, bytes)) or type(value).__name__ in ("bool", "bool_"):
        return None
    if getattr(value, "shape", ()) != ():  # an array of one number converts to a float, with a warning
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def combined_scores(
    combine: Combine,
    models: Sequence[Sequence[Any]],
    weights: Sequence[float],
    first_stage: Sequence[float | None] | None = None,
) -> list[float]:
    """One score per document; higher is better. They do not depend on the order of documents or of models.

    Args:
        models: for each model the scores of the documents, higher is better; for ``rrf`` anything that compares.
        weights: one positive number per model.
        first_stage: the first stage's scores, None where a document has none; None without a first stage.

    >>> combined_scores(Combine.rrf(k=0), [[0.9, 0.1]], [1.0], [1.0, 3.0])
    [1.5, 1.5]
    """
    first = [] if first_stage is None else [_filled(first_stage, combine.lower_is_better)]
    if combine.method == "rrf":
        k = combine.k or 0.0
        columns = [
            [weight / (k + rank) for rank in _ranks(scores)]
            for scores, weight in zip([*models, *first], [*weights, *(1.0 for _ in first)], strict=True)
        ]
    else:
        normal = _minmax if combine.normalize == "minmax" else _zscore
        share = (combine.first_stage or 0.0) if first else 0.0
        # Divided by the largest first, so that the sum of large weights stays finite.
        relative = [weight / max(weights) for weight in weights]
        shares = [(1 - share) * weight / math.fsum(relative) for weight in relative] + [share] * len(first)
        columns = [
            [weight * score for score in normal(scores)]
            for scores, weight in zip([*models, *first], shares, strict=True)
        ]
    # fsum is exact, so that documents with the same numbers in another order of the lists tie.
    return [math.fsum(parts) for parts in zip(*columns, strict=True)]


def _filled(scores: Sequence[float | None], lower_is_better: bool) -> list[float]:
    """Scores of which higher is better; a missing one is as bad as the worst."""
    known = [None if score is None else -score if lower_is_better else score for score in scores]
    worst = min((score for score in known if score is not None), default=0.0)
    return [worst if score is None else score for score in known]


def _ranks(scores: Sequence[Any]) -> list[int]:
    """Ranks from 1; equal scores share the best of their ranks."""
    first: dict[Any, int] = {}
    for rank, score in enumerate(sorted(scores, reverse=True), start=1):
        first.setdefault(score, rank)
    return [first[score] for score in scores]


def _scaled(scores: Sequence[float]) -> list[float]:
    """The scores divided by a power of two, at most 1 in size, so that differences and squares stay finite."""
    _, exponent = math.frexp(max(map(abs, scores)))
    return [math.ldexp(score, -exponent) for score in scores]


def _zscore(scores: Sequence[float]) -> list[float]:
    if not scores or min(scores) == max(scores):
        return [0.0] * len(scores)
    scaled = _scaled(scores)
    mean = math.fsum(scaled) / len(scaled)
    deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scaled) / len(scaled))
    return [(score - mean) / deviation for score in scaled]


def _minmax(scores: Sequence[float]) -> list[float]:
    if not scores or min(scores) == max(scores):
        return [0.5] * len(scores)
    scaled = _scaled(scores)
    low, high = min(scaled), max(scaled)
    return [(score - low) / (high - low) for score in scaled]
