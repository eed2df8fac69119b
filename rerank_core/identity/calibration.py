"""Calibrations: the JSON file with the map from a model's raw scores to probabilities, and checks before its use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rerank_core.errors import CheckpointError, InputError, short
from rerank_core.measures.calibration_map import CalibrationMap
from rerank_core.options import Options
from rerank_core.scorer import AnyScorer, cascades, is_listwise
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import file_path_of
from rerank_core.spec.untrusted_files import read_json, reason

if TYPE_CHECKING:
    from rerank_core.reranker import Reranker

__all__ = ["Calibration", "map_of", "read_calibration", "write_calibration"]

_FORMAT, _VERSION = "rerank-calibration", 1
_HOW = "make one for this model with `rerank eval --calibrate`"


@dataclass(frozen=True)
class Calibration:
    """A calibration and the model that it belongs to.

    Attributes:
        name: the model's name, for messages.
        fingerprint: `Reranker.fingerprint` of the model.
        fitted: facts about the fit, as plain data: numbers of documents, the data's digest, calibration errors.
    """

    name: str
    fingerprint: str
    map: CalibrationMap
    fitted: Mapping[str, Any] = field(default_factory=dict)


def read_calibration(path: str) -> Calibration:
    """The calibration in a file that `write_calibration` wrote.

    Raises:
        InputError: no such file, or one of another format or version, or with an invalid value.
    """
    if not os.path.isfile(path):
        raise InputError(f"calibration is {short(path)}, and there is no such file; {_HOW}")
    try:
        data = read_json(Path(path))
        if data.pop("format", None) != _FORMAT:
            raise InputError(f"it is no calibration, which has the format {_FORMAT!r}; {_HOW}")
        if (version := data.pop("version", None)) != _VERSION:
            raise InputError(
                f"its version is {short(version)}, and this rerank-core reads {_VERSION}; upgrade it, or {_HOW}"
            )
        model = data.inner("model")
        fitted = data.inner("fitted")
        name, fingerprint = model.of("name", str, ""), model.of("fingerprint", str, "")
        if not fingerprint:
            raise InputError(f"it does not say for which model it was made (model.fingerprint); {_HOW}")
        values = {key: value for key, value in data.items() if key not in ("model", "fitted")}
        return Calibration(name, fingerprint, CalibrationMap.from_json(values), dict(fitted))
    except (CheckpointError, InputError) as error:
        said = str(error).removeprefix(f"{path}: ")
        raise InputError(f"the calibration {short(path)} cannot be used: {said}") from error


def write_calibration(
    path: str | os.PathLike[str],
    reranker: Reranker,
    calibration: CalibrationMap,
    fitted: Mapping[str, Any] | None = None,
) -> Path:
    """Write the file that ``load(..., calibration=path)`` reads, for one model with the options it was loaded with.

    Args:
        calibration: maps the raw scores of documents (`Reranker.score`, or `rerank` with ``activation="none"``) to
            probabilities.
        fitted: facts about the fit as JSON data: numbers of documents, the data's digest, calibration errors.

    Raises:
        InputError: a model whose scores cannot be calibrated, facts that are no JSON data, or a file that cannot be
            written.
    """
    check_can_calibrate(reranker.spec, reranker.scorer)
    data = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": {"name": reranker.spec.name, "fingerprint": reranker.fingerprint},
        **calibration.to_json(),
        "fitted": dict(fitted or {}),
    }
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        encoded = text.encode()
    except (TypeError, ValueError) as error:
        raise InputError(f"fitted is {short(fitted)}, which is no JSON data: {error}") from error
    target = Path(file_path_of(path, "the file of the calibration"))
    # Replaced in one step, so that no reader sees half of it.
    scratch = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        scratch.write_bytes(encoded)
        os.replace(scratch, target)
    except OSError as error:
        raise InputError(f"the calibration {short(str(target))} cannot be written: {reason(error)}") from error
    finally:
        with suppress(OSError):
            scratch.unlink()
    return target


def check_can_calibrate(spec: ModelSpec, scorer: AnyScorer) -> None:
    """Refuse a model whose scores have no calibration.

    Raises:
        InputError: a listwise model, a cascade, or weights that hold a calibration already.
    """
    if is_listwise(scorer) or spec.raw_space == "rank":
        raise InputError(f"{spec.name!r} orders lists and gives no scores, so that there is nothing to calibrate")
    if cascades(scorer):
        raise InputError(
            f"{spec.name!r} was loaded with a cascade, whose scores come from different layers and cannot be compared, "
            "so that no calibration fits them; leave cascade out"
        )
    if spec.calibrated:
        raise InputError(
            f"the weights of {spec.name!r} hold a calibration already, made by publish.calibrate "
            f"({short(dict(spec.calibrated))}); leave calibration out, as activation='probability' shows its "
            "probabilities. To calibrate on other data, publish the model again without publish.calibrate"
        )


def map_of(
    options: Options, spec: ModelSpec, scorer: AnyScorer, fingerprint: Callable[[], str]
) -> CalibrationMap | None:
    """The calibration that was given to ``load``, checked to be of this model; None without one.

    Raises:
        InputError: see `read_calibration` and `check_can_calibrate`; or it was made for another model.
    """
    if options.calibration is None:
        return None
    path = str(options.calibration)
    check_can_calibrate(spec, scorer)
    calibration, own = read_calibration(path), fingerprint()
    if calibration.fingerprint != own:
        raise InputError(
            f"the calibration {short(path)} was made for {calibration.name!r} with the fingerprint "
            f"{short(calibration.fingerprint[:12])}, and this is {spec.name!r} with {own[:12]!r}: other weights, or "
            f"other options of load that change scores, such as max_length, longdoc or dtype; {_HOW} and its options"
        )
    return calibration.map
