"""``--calibrate``: fits a map from a model's raw scores to probabilities of relevance, and writes it for `load`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rerank_core import InputError, Reranker, write_calibration
from rerank_core.measures import (
    CalibrationMap,
    Reliability,
    Scored,
    cross_validated,
    isotonic,
    platt,
    reliability,
    temperature,
)
from rerank_eval.figures.evaluation import Evaluation
from rerank_eval.runs.model_run import RunFacts
from rerank_eval.sets.judged_set import JudgedSet
from rerank_eval.thresholds.labelled_scores import check_has_scores, check_space, labelled_scores, run_of

__all__ = ["Calibrated", "calibrate", "check_can_calibrate", "write"]

_FITS: dict[str, Callable[[Scored], CalibrationMap]] = {
    "platt": platt,
    "temperature": temperature,
    "isotonic": isotonic,
}

_FEWEST_FOR_ISOTONIC = 1_000
"""Documents below which isotonic regression overfits (Niculescu-Mizil & Caruana, 2005)."""

# Probabilities as they are.
_UNCHANGED = CalibrationMap("isotonic", points=((0.0, 0.0), (1.0, 1.0)))


@dataclass(frozen=True)
class Calibrated:
    """The map that was chosen, with its error on queries that it was not fitted to.

    Attributes:
        model: the model's label.
        fingerprint: of the model whose scores were fitted.
        before: of the sigmoid of the raw scores (of the scores themselves where they are probabilities).
        after: for each method, cross-validated over queries; the chosen one has the lowest expected calibration error
            (ECE). A method that cannot be fitted is in ``refused`` with the reason.
        fitted: facts for the file: numbers of queries and documents, digests of the sets, errors.
    """

    model: str
    fingerprint: str
    map: CalibrationMap
    before: Reliability
    after: dict[str, Reliability]
    refused: dict[str, str]
    fitted: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The calibration as a JSON object."""
        return {**asdict(self), "map": self.map.to_json()}


def calibrate(evaluation: Evaluation, model: str, *, seed: int = 0) -> Calibrated:
    """Fit Platt's sigmoid, a temperature and an isotonic map to the labelled scores of a model on all sets together.

    The one with the lowest cross-validated ECE (five folds of queries) is fitted to all queries. Isotonic regression
    is tried from 1,000 documents on.

    Raises:
        InputError: a listwise model, a cascade, a model whose weights hold a calibration, a run that did not reach its
            end, or scores to which no method can be fitted.
    """
    queries: list[Scored] = []
    runs = []
    for judged in evaluation.sets:
        run = run_of(evaluation, judged, model)
        check_has_scores(run)
        check_can_calibrate(model, run.facts, [judged])
        runs.append(run)
        queries += labelled_scores(judged, run)
    documents = [one for query in queries for one in query]
    after: dict[str, Reliability] = {}
    refused: dict[str, str] = {}
    for name, fit in _FITS.items():
        if name == "isotonic" and len(documents) < _FEWEST_FOR_ISOTONIC:
            refused[name] = f"it needs {_FEWEST_FOR_ISOTONIC:,} documents, and there are {len(documents):,}"
            continue
        found = _tried(fit, queries, seed)
        if isinstance(found, str):
            refused[name] = found
        else:
            after[name] = found
    if not after:
        raise InputError(f"no calibration of {model!r} can be fitted: {'; '.join(dict.fromkeys(refused.values()))}")
    method = min(after, key=lambda name: after[name].ece)
    probabilities = runs[0].facts.score_space == "probability"
    before = reliability(documents, _UNCHANGED) if probabilities else reliability(documents)
    fitted = {
        "sets": {
            judged.name: {"queries": len(judged.queries), "digest": _digest(judged.digest, evaluation, at)}
            for at, judged in enumerate(evaluation.sets)
        },
        "queries": len(queries),
        "documents": len(documents),
        "relevant": sum(grade > 0 for _, grade in documents),
        "ece_before": before.ece,
        "ece_cross_validated": {name: one.ece for name, one in after.items()},
        "brier_before": before.brier,
        "brier_cross_validated": {name: one.brier for name, one in after.items()},
        "seed": seed,
    }
    return Calibrated(model, runs[0].fingerprint, _FITS[method](documents), before, after, refused, fitted)


def check_can_calibrate(model: str, facts: RunFacts, sets: Iterable[JudgedSet]) -> None:
    """Refuse a model whose scores of these sets cannot be calibrated, before it ranks them.

    Raises:
        InputError: a listwise model, a cascade, a model whose weights hold a calibration, or queries with instructions
            that the model follows, since a calibration holds for the one instruction of `load`.
    """
    check_space(model, facts)
    if facts.calibrated:
        raise InputError(
            f"the weights of {model!r} hold a calibration already: activation='probability' shows its probabilities. "
            "Leave --calibrate out; to calibrate on other data, publish the model again without publish.calibrate"
        )
    if facts.instructed and any(query.instruction is not None for judged in sets for query in judged.queries):
        raise InputError(
            f"the queries have instructions, which {model!r} follows, and a calibration holds for the instruction of "
            "`load` alone; leave them out of the data and give --option instruction=TEXT"
        )


def write(path: str | os.PathLike[str], calibrated: Calibrated, reranker: Reranker) -> None:
    """Write the file that ``load(..., calibration=path)`` reads.

    Args:
        reranker: the model, loaded as it was for the evaluation.

    Raises:
        InputError: another model than the one that was evaluated, such as a folder that changed meanwhile; or one whose
            scores cannot be calibrated (`write_calibration`).
    """
    if reranker.fingerprint != calibrated.fingerprint:
        raise InputError(
            f"{calibrated.model!r} has the fingerprint {reranker.fingerprint[:12]!r} now, and its scores were computed "
            f"with {calibrated.fingerprint[:12]!r}: its files changed meanwhile; repeat the command"
        )
    write_calibration(path, reranker, calibrated.map, calibrated.fitted)


def _tried(fit: Callable[[Scored], CalibrationMap], queries: Sequence[Scored], seed: int) -> Reliability | str:
    """The cross-validated error of a fit, or why there is none."""
    try:
        return cross_validated(fit, queries, seed=seed)
    except InputError as error:
        return str(error)


def _digest(texts: str, evaluation: Evaluation, at: int) -> str:
    """A digest of a set's texts and of its labels."""
    gains = [[one.gain for one in query.candidates] for query in evaluation.sets[at].queries]
    return hashlib.sha256(f"{texts} {gains!r}".encode()).hexdigest()
