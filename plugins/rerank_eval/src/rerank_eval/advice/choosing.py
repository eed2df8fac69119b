"""The rule by which a model is chosen, and how sure the data lets us be of the choice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from rerank_core.measures import queries_needed
from rerank_eval.advice.advice import Verdict, Versus
from rerank_eval.advice.contenders import Contender, Pair, weighted

__all__ = ["CLEARLY_FASTER", "LEVEL", "choose", "versus"]

LEVEL = 0.95

# Medians of two runs of one model differ by less.
CLEARLY_FASTER = 0.8


def choose(contenders: Sequence[Contender], pairs: Mapping[tuple[str, str], Pair], margin: float) -> Contender | None:
    """The contender with the highest mean, or a clearly faster one of equal quality; None where there is none.

    Equal quality is a mean that is lower by at most ``margin``, unless the data shows that the faster one is worse, and
    not that it is worse by less than ``margin``. Of several the fastest is chosen, so that the first stage, which takes
    no further time, wins where no model is better by more than ``margin``.

    Args:
        contenders: those within the budget.
    """
    if not contenders:
        return None
    best = max(contenders, key=lambda one: (one.mean, -one.median_ms))
    equal = [best]
    for one in contenders:
        if one is best or one.median_ms > CLEARLY_FASTER * best.median_ms:
            continue
        pair = pairs[one.name, best.name]
        shown_worse = pair.difference.high < 0 and pair.p_corrected < 1 - LEVEL
        small = _p_of_loss(one, best, margin) * (len(contenders) - 1) < (1 - LEVEL) / 2
        if pair.difference.mean >= -margin and (not shown_worse or small):
            equal.append(one)
    return min(equal, key=lambda one: (one.median_ms, -one.mean))


def versus(choice: Contender, other: Contender, pair: Pair, margin: float, others: int) -> Versus:
    """The choice against another contender.

    Args:
        others: number of contenders that the choice is compared with.
    """
    difference, p = pair.difference, pair.p_corrected
    p_loss = min(1.0, _p_of_loss(choice, other, margin) * others)
    verdict: Verdict = "open"
    if difference.low > 0 and p < 1 - LEVEL:
        verdict = "better"
    elif p_loss < (1 - LEVEL) / 2:
        verdict = "as good"
    more = _more_queries(choice, other, margin, others) if verdict == "open" else 0
    return Versus(other.name, difference, p, p_loss, verdict, more, other.median_ms)


def _p_of_loss(choice: Contender, other: Contender, margin: float) -> float:
    """One-sided p-value of the paired t-test that the choice loses ``margin`` or more (a test of non-inferiority).

    A percentile bootstrap is too narrow for ten queries.
    """
    from scipy.stats import t

    by_set = choice.above(other)
    above, (error, freedom) = fmean(map(fmean, by_set)) + margin, _standard_error(by_set)
    if error == 0:
        return 0.0 if above > 0 else 1.0
    return float(t.sf(above / error, freedom))


def _standard_error(by_set: Sequence[Sequence[float]]) -> tuple[float, float]:
    """Of the mean over sets, and its degrees of freedom (Welch, 1947): of one set, the number of its queries less 1."""
    parts = [variance(own) / len(own) / len(by_set) ** 2 for own in by_set]
    below = sum(part**2 / (len(own) - 1) for part, own in zip(parts, by_set, strict=True))
    return math.sqrt(sum(parts)), sum(parts) ** 2 / below if below else math.inf


def _more_queries(choice: Contender, other: Contender, margin: float, others: int) -> int | None:
    """Further queries that would show a difference, or a loss below the margin, whichever takes fewer."""
    own = _around_mean(choice.above(other))
    level = 1 - (1 - LEVEL) / others
    # With n queries the randomisation test has no p-value below 2 / 2^n.
    fewest = math.floor(math.log2(2 / (1 - level))) + 1
    above = [one + margin for one in own]
    found = [queries_needed(own, level=level), queries_needed(above, level=level) if sum(above) > 0 else None]
    needed = [max(one, fewest) for one in found if one is not None]
    return max(1, min(needed) - len(own)) if needed else None


def _around_mean(by_set: Sequence[Sequence[float]]) -> list[float]:
    """Differences whose mean is that over sets, and whose deviation is that within sets, each of which counts the same.

    >>> _around_mean([[1.0, 1.0], [0.0, 1.0]])
    [0.75, 0.75, 0.25, 1.25]
    """
    mean = fmean(map(fmean, by_set))
    return [mean + one for one in weighted([[one - fmean(own) for one in own] for own in by_set])]
