"""`ModelRun`: the result of one model on one set, as it is kept on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

__all__ = ["ModelRun", "QueryRun", "RunFacts", "Stopped"]

Stopped = Literal["budget", "crashed", "failed"]


@dataclass(frozen=True, slots=True)
class QueryRun:
    """A model's ranking of one query.

    Attributes:
        id: the query's id.
        scores: ``[candidates]``: raw scores in the order of the set's candidates; of a listwise model and of a cascade,
            whose scores cannot be compared, minus the rank. Empty where the call failed.
        seconds: wall time of the call.
        tokens: tokens that the model computed; None where it counts none.
        truncated: positions of candidates of which some text was not read.
        query_truncated: whether the query was cut.
        passages: the best passage of a candidate that was read in several windows: ``{position: (start, stop)}`` in
            characters of its text.
        statistics: counts that a listwise model reports, such as its answers (``windows``) and ``well_formed`` ones.
        error: the message of the call's error; None where it succeeded.
    """

    id: str
    scores: tuple[float, ...]
    seconds: float
    tokens: int | None = None
    truncated: tuple[int, ...] = ()
    query_truncated: bool = False
    passages: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    statistics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The run as a JSON object; values that are the default are left out."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        data["passages"] = {str(position): list(span) for position, span in self.passages.items()}
        return {name: value for name, value in data.items() if name in _ALWAYS or value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> QueryRun:
        """The run that `to_json` wrote; any exception where it is another object."""
        lists = {name: tuple(data.get(name, ())) for name in ("scores", "truncated")}
        spans = {int(position): (start, stop) for position, (start, stop) in data.get("passages", {}).items()}
        return cls(**{**data, **lists, "passages": spans})


_ALWAYS = ("id", "scores", "seconds", "tokens")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the model's process measured beside the scores.

    Attributes:
        parameters: number of weights; None for a remote model.
        load_seconds: wall time of `load`.
        peak_bytes: largest resident memory of the process (on a GPU: of the device).
        device, threads, dtype: where and how it ran.
        machine: the processor and, where the model ran there, the GPU.
        versions: versions of rerank-core, the model's plugin, torch and transformers.
        score_space: kind of the raw scores, such as ``logit`` or ``rank``.
        calibrated: whether the weights hold a calibration.
        instructed: whether the model follows the instruction of a query.
    """

    parameters: int | None = None
    load_seconds: float | None = None
    peak_bytes: int | None = None
    device: str | None = None
    threads: int | None = None
    dtype: str | None = None
    machine: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    score_space: str = "logit"
    calibrated: bool = False
    instructed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The facts as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunFacts:
        """The facts that `to_json` wrote; any exception where it is another object."""
        return cls(**data)


@dataclass(frozen=True)
class ModelRun:
    """One model's rankings of one set.

    Attributes:
        model: the label in tables: the name given with ``--model``, with its options where they differ from another's.
        source: what was given to `load`.
        options: the options given to `load` and `rerank`, without secrets.
        fingerprint: `Reranker.fingerprint`; empty where the model could not be loaded.
        set_digest: `JudgedSet.digest`.
        queries: in the order of the set; fewer where ``stopped`` says so.
        stopped: why the run did not reach the end: too slow for the ``budget``, its process ``crashed``, or it
            ``failed``: it could not be loaded, or each of its first calls failed. None where it did.
        reason: the same in words, with the error's message or the time that was too long.
    """

    model: str
    source: str
    options: Mapping[str, Any]
    fingerprint: str
    set_digest: str
    queries: tuple[QueryRun, ...]
    facts: RunFacts = field(default_factory=RunFacts)
    stopped: Stopped | None = None
    reason: str | None = None
