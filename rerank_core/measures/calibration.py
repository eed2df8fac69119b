"""Fits of a calibration to labelled scores, and their error on queries that they were not fitted to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from rerank_core.errors import InputError
from rerank_core.measures.calibration_error import Reliability, Scored, arrays, reliability_of
from rerank_core.measures.calibration_map import CalibrationMap
from rerank_core.measures.libraries import needed_for

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _Array: TypeAlias = npt.NDArray[np.float64]

__all__ = ["cross_validated", "isotonic", "platt", "temperature"]

_STEPS = 100


def platt(scored: Scored) -> CalibrationMap:
    """The scale and offset whose sigmoid fits the labels best (Platt, 1999). His targets lie inside (0, 1), so that the
    scale stays finite if the scores separate the labels perfectly.

    Raises:
        InputError: all labels equal, all scores equal, or relevant documents score lower on average.
    """
    with needed_for("fits of a calibration"):
        import numpy as np

    scores, targets, centre, spread = _problem(scored)
    # Newton's method on the convex loss; a step that does not descend is halved (Lin, Lin & Weng, 2007).
    design = np.stack([(scores - centre) / spread, np.ones_like(scores)], axis=1)
    scale, offset = _newton(design, targets)
    return CalibrationMap("platt", float(scale / spread), float(offset - scale * centre / spread))


def temperature(scored: Scored) -> CalibrationMap:
    """The best scale without offset (Guo et al., 2017): 1 / temperature. A score of 0 stays a probability of 0.5.

    Raises:
        InputError: as `platt` does; or no scale without an offset fits, such as for cosines, which are above 0 for
            irrelevant documents too.
    """
    scores, targets, _, spread = _problem(scored)
    (scale,) = _newton((scores / spread)[:, None], targets)
    if scale <= 0:
        raise InputError(
            "a temperature has no offset, and these scores need one: with a score of 0 at a probability of 0.5, most "
            "irrelevant documents lie on the wrong side; use Platt's fit"
        )
    return CalibrationMap("temperature", float(scale / spread))


def isotonic(scored: Scored) -> CalibrationMap:
    """The non-decreasing function with the least square error to the labels (Zadrozny & Elkan, 2002), by scikit-learn.
    It fits any shape, and needs about 1,000 documents to be better than `platt` (Niculescu-Mizil & Caruana, 2005).

    Raises:
        InputError: as `platt` does.
        MissingDependencyError: the extra ``eval`` is not installed.
    """
    with needed_for("fits of a calibration"):
        import numpy as np
        from sklearn.isotonic import IsotonicRegression

    _problem(scored)
    scores, relevant = arrays(scored)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0).fit(scores, relevant)
    # Means of the labels may differ in the last digit where they are equal.
    probabilities = np.maximum.accumulate(fitted.y_thresholds_.clip(0.0, 1.0))
    return CalibrationMap(
        "isotonic", points=tuple(zip(fitted.X_thresholds_.tolist(), probabilities.tolist(), strict=True))
    )


def cross_validated(
    fit: Callable[[Scored], CalibrationMap], queries: Sequence[Scored], *, folds: int = 5, seed: int = 0, bins: int = 10
) -> Reliability:
    """Reliability of a fit on queries that it was not fitted to: each fold of the queries gets its probabilities from
    the fit to the other folds, and all probabilities are measured together.

    Args:
        fit: `platt`, `temperature` or `isotonic`.
        queries: the scored documents of each query; a query is in one fold whole.
        folds: number of folds, or the number of queries where they are fewer.

    Raises:
        InputError: fewer than two queries or folds, or queries outside a fold that cannot be fitted.
    """
    folds = min(folds, len(queries))
    if folds < 2:
        raise InputError(f"cross-validation needs two or more queries and folds, and got {len(queries)} queries")
    order = list(range(len(queries)))
    random.Random(seed).shuffle(order)
    probabilities: list[float] = []
    documents: list[tuple[float, int]] = []
    for fold in range(folds):
        held_out = set(order[fold::folds])
        fitted = fit([one for at, query in enumerate(queries) if at not in held_out for one in query])
        own = [one for at in sorted(held_out) for one in queries[at]]
        probabilities += [fitted(score) for score, _ in own]
        documents += own
    _, relevant = arrays(documents)
    return reliability_of(probabilities, relevant, bins=bins)


def _problem(scored: Scored) -> tuple[_Array, _Array, float, float]:
    """Scores, targets, and mean and standard deviation of the scores, by which the fit normalises them."""
    import numpy as np

    scores, relevant = arrays(scored)
    positives = float(relevant.sum())
    negatives = len(relevant) - positives
    if not positives or not negatives:
        raise InputError(
            f"calibration needs relevant and irrelevant documents, and {int(positives)} of {len(scores)} are relevant"
        )
    spread = float(scores.std())
    if spread <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        raise InputError(f"calibration: all {len(scores)} scores are {float(scores[0])!r}; there is nothing to fit")
    if scores[relevant == 1].mean() <= scores[relevant == 0].mean():
        raise InputError(
            "calibration: relevant documents score no higher than irrelevant ones on average, so a fit would reverse "
            "the order of documents; train longer, or look at the dev set's labels"
        )
    targets = np.where(relevant == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    return scores, targets, float(scores.mean()), spread


def _newton(design: _Array, targets: _Array) -> _Array:
    """Weights ``[features]`` of a logistic regression without intercept."""
    import numpy as np

    weights = np.zeros(design.shape[1])
    loss = _cross_entropy(design @ weights, targets)
    for _ in range(_STEPS):
        probabilities = _sigmoid(design @ weights)
        gradient = design.T @ (probabilities - targets)
        curvature = (design * (probabilities * (1 - probabilities))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * len(targets) * np.eye(len(weights)), gradient)
        size = 1.0
        while size > 1e-10 and not (better := _cross_entropy(design @ (weights - size * step), targets)) <= loss:
            size /= 2
        if size <= 1e-10:
            break
        weights, fallen, loss = weights - size * step, loss - better, better
        if fallen <= 1e-14 * abs(loss):
            break
    return weights


def _cross_entropy(logits: _Array, targets: _Array) -> float:
    import numpy as np

    return float((np.logaddexp(0, logits) - targets * logits).sum())


def _sigmoid(logits: _Array) -> _Array:
    import numpy as np

    return np.exp(-np.logaddexp(0, -logits))
