"""The options of ``load`` and ``rerank``: typed and listed; an unknown option is an error."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from rerank_core.combine import Combine
from rerank_core.errors import InputError, PluginError, check_count, check_flag, near_matches, one_of, short
from rerank_core.planning.longdoc import LongDoc, longdoc_of
from rerank_core.planning.row_plan import Rules
from rerank_core.spec import ModelSpec
from rerank_core.spec.hub_or_folder import file_path_of, text_of

__all__ = ["ALL_GPUS", "Activation", "CallOptions", "Options"]

Activation: TypeAlias = Literal["default", "none", "sigmoid", "probability"]
ALL_GPUS = "cuda:all"
"""As a device: a copy of the model on each GPU."""

_DTYPES = ("float32", "float16", "bfloat16", "int8")


@dataclass(frozen=True)
class Options:
    """Options of ``load``, the same for every model.

    Attributes:
        checkpoint: a directory, a hub id, ``modelscope:owner/name`` or a GGUF file, whose weights replace those of a
            named model.
        device: ``cpu``, ``cuda``, ``cuda:1`` or its number 1, ``mps``, or a torch device; by default the fastest
            available one. Several devices of one kind, as a list or as ``cuda:0,cuda:1``, or all GPUs, ``cuda:all``:
            each gets a copy of the model, and batches go to the copy that is free.
        dtype: ``float32`` (default), ``float16`` or ``bfloat16``, also as a torch dtype. ``int8`` (CPU only) is faster
            and changes scores a little (README, Speed).
        max_length: the maximum tokens of one row, template included; by default the model's own limit.
        max_query_length: longer queries are cut to this many tokens, and the ranking reports it; by default queries
            are never cut.
        token_budget: tokens computed at the same time on one device; the default depends on the device.
        threads: threads that compute on the CPU; by default as many as there are cores, or what ``OMP_NUM_THREADS``,
            ``RERANK_THREADS`` or the container's quota says. On a GPU the calling thread computes; with two or
            more on a CUDA device, one batch is prepared while another is computed.
        longdoc: ``firstp``, ``maxp``, ``meanp``, ``kmaxp``, ``kmaxp:K`` or a strategy object.
        overlap: tokens that neighbouring windows share; by default ``min(80, room // 4)``.
        compat: ``flagembedding``, ``rag-retrieval``, ``bcembedding`` or ``model-card``: truncate texts and build rows
            as that framework or the model's card does, instead of by ``longdoc`` and ``overlap`` (table in
            docs/longdoc.md).
        activation: ``default`` (``probability`` with ``calibration=``, else the one the model's authors apply),
            ``none``, ``sigmoid``, or ``probability``: calibrated probabilities of relevance.
        calibration: a file that says which probability a raw score of this model means; `write_calibration` and
            ``rerank eval --calibrate`` write it.
        parse_special_tokens: read strings such as ``</s>`` in user text as special tokens, as the original
            frameworks do; by default they are plain text.
        revision: hub commit, branch or tag; by default the one the model is pinned to. ModelScope has commits of its
            own, so that its default is the branch ``master``.
        offline: use only cached files, without network access.
        model: the options that only this model has, by name.
    """

    checkpoint: str | None = None
    device: str | None = None
    dtype: str | None = None
    max_length: int | None = None
    max_query_length: int | None = None
    token_budget: int | None = None
    threads: int | None = None
    longdoc: str | LongDoc | None = None
    overlap: int | None = None
    compat: str | None = None
    activation: Activation = "default"
    calibration: str | os.PathLike[str] | None = None
    parse_special_tokens: bool = False
    revision: str | None = None
    offline: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: ModelSpec, arguments: Mapping[str, Any]) -> Options:
        """Check keyword arguments of ``load`` against the common options and those of the model.

        Raises:
            InputError: an option is unknown (the message lists the valid ones and a near match) or has an invalid
                value.
        """
        common = {item.name for item in fields(cls)} - {"model"}
        of_model = {option.name: option for option in spec.options}
        reserved = {*common, "model", "name", "query", "documents", "first_stage", "requests", "pairs"}
        if clash := sorted(reserved.union(item.name for item in fields(CallOptions)).intersection(of_model)):
            raise PluginError(
                f"model {spec.name!r} declares options with names that are reserved: {clash!r}; rename them in its "
                "ModelSpec"
            )
        refuse_unknown(arguments, [*sorted(common), *of_model], spec.name)
        values = {name: value for name, value in arguments.items() if name in common}
        model = {name: option.default for name, option in of_model.items()}
        for name, value in arguments.items():
            if name in of_model:
                model[name] = of_model[name].check(value)
        return cls(**values, model=model)

    def __post_init__(self) -> None:
        if self.checkpoint is not None:
            object.__setattr__(self, "checkpoint", text_of(self.checkpoint, "checkpoint"))
        if self.calibration is not None:
            path = os.path.abspath(os.path.expanduser(file_path_of(self.calibration, "calibration")))
            object.__setattr__(self, "calibration", path)
        object.__setattr__(self, "device", _device(self.device))
        for name, example in (("revision", "main"), ("compat", "flagembedding")):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise InputError(f"{name} is {short(value)}; it must be a string like {example!r}")
        if self.dtype is not None:
            name = str(self.dtype).removeprefix("torch.") if _of_torch(self.dtype, "dtype") else self.dtype
            if not isinstance(name, str) or name not in _DTYPES:
                raise InputError(f"dtype is {short(self.dtype)}; it must be one of {', '.join(_DTYPES)}")
            object.__setattr__(self, "dtype", name)
        for name, minimum in (
            ("max_length", 1),
            ("max_query_length", 1),
            ("token_budget", 1),
            ("threads", 1),
            ("overlap", 0),
        ):
            object.__setattr__(self, name, check_count(name, getattr(self, name), minimum))
        for name in ("parse_special_tokens", "offline"):
            check_flag(name, getattr(self, name))
        if self.longdoc is not None:
            longdoc_of(self.longdoc)
        check_activation(self.activation)
        if self.compat is not None and (self.longdoc is not None or self.overlap is not None):
            raise InputError(
                f"compat={self.compat!r} decides how long documents are truncated; leave longdoc and overlap out"
            )

    @property
    def several_devices(self) -> bool:
        """Whether ``device`` asks for more than one copy of the model."""
        return self.device is not None and ("," in self.device or self.device == ALL_GPUS)

    def rules(self, spec: ModelSpec) -> Rules:
        """The rules by which texts become rows; the model's values stand in for options that were not given."""
        return Rules(
            longdoc=longdoc_of(spec.longdoc if self.longdoc is None else self.longdoc),
            max_length=self.max_length or spec.max_length,
            max_query_length=self.max_query_length or spec.max_query_length,
            overlap=self.overlap,
            token_budget=self.token_budget,
        )


@dataclass(frozen=True)
class CallOptions:
    """Options of one call.

    Attributes:
        top_k: return at most this many hits.
        min_score: return only hits with at least this score, in the ranking's ``score_space``.
        longdoc, overlap, activation: as in `Options`, for this call only.
        combine: mix the model's raw scores with those of the first stage (the retriever); see `Combine`.
        progress: show a progress bar on stderr.
        explain: for late interaction, list the matched tokens on each hit. The documents of all hits are encoded
            again, so pass ``top_k`` where there are many.
        model: the call options that only this model has.
    """

    top_k: int | None = None
    min_score: float | None = None
    longdoc: str | LongDoc | None = None
    overlap: int | None = None
    activation: Activation | None = None
    combine: Combine | None = None
    progress: bool = False
    explain: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: ModelSpec, arguments: Mapping[str, Any]) -> CallOptions:
        """Check keyword arguments of ``rerank``; see `Options.of`."""
        common = {item.name for item in fields(cls)} - {"model"}
        of_model = {option.name: option for option in spec.options if option.when == "call"}
        refuse_unknown(arguments, [*sorted(common), *of_model], spec.name)
        values = {name: value for name, value in arguments.items() if name in common}
        model = {name: of_model[name].check(value) for name, value in arguments.items() if name in of_model}
        return cls(**values, model=model)

    def __post_init__(self) -> None:
        object.__setattr__(self, "top_k", check_count("top_k", self.top_k, 1))
        object.__setattr__(self, "overlap", check_count("overlap", self.overlap, 0))
        for name in ("progress", "explain"):
            check_flag(name, getattr(self, name))
        if self.combine is not None and not isinstance(self.combine, Combine):
            raise InputError(f"combine is {short(self.combine)}; it must be Combine.rrf() or Combine.weighted()")
        if self.min_score is not None:
            try:
                minimum = math.nan if isinstance(self.min_score, (bool, str, bytes)) else float(self.min_score)
            except (TypeError, ValueError, OverflowError):
                minimum = math.nan
            if math.isnan(minimum):
                raise InputError(f"min_score is {short(self.min_score)}; it must be a number")
            object.__setattr__(self, "min_score", minimum)
        if self.longdoc is not None:
            longdoc_of(self.longdoc)
        if self.activation is not None:
            check_activation(self.activation)


def _device(value: Any) -> str | None:
    """The name of a device that is given as a name, as the number of a GPU or as a torch device; the names of several
    joined by commas.

    Raises:
        InputError: the value is none of these, or names devices of several kinds.
    """
    if value is None:
        return None
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    names = [_device_name(one, value) for one in given]
    if not names:
        raise InputError(f"device is {short(value)}, which names no device; leave it out to use the best one")
    if len({name.partition(":")[0] for name in names}) > 1:
        raise InputError(
            f"device is {short(value)}; a model's copies are on devices of one kind, since batches of a size for one "
            "would take minutes on another"
        )
    if ALL_GPUS in names and len(names) > 1:
        raise InputError(f"device is {short(value)}; {ALL_GPUS!r} names all GPUs, so give it alone")
    return ",".join(names)


def _device_name(one: Any, value: Any) -> str:
    """One device of ``value``."""
    if isinstance(one, str) and one.strip().isdecimal():
        return f"cuda:{one.strip()}"  # a command line passes numbers as strings
    if isinstance(one, str) and one.strip():
        return one.strip()
    if _of_torch(one, "device"):
        return str(one)
    try:
        number = -1 if isinstance(one, bool) else operator.index(one)
    except TypeError:
        number = -1
    if number < 0:
        raise InputError(
            f"device is {short(value)}; it must be a string like 'cpu' or 'cuda:1', a GPU's number, a torch.device, or "
            "a list of these"
        )
    return f"cuda:{number}"


def _of_torch(value: object, kind: str) -> bool:
    """Whether a value is a torch device or dtype, by the name of its type, so that torch need not be imported."""
    return (type(value).__module__, type(value).__name__) == ("torch", kind)


def check_activation(value: object) -> None:
    """Raise InputError for an unknown activation."""
    one_of(value, get_args(Activation), "activation")


def refuse_load_only(arguments: Mapping[str, Any]) -> None:
    """Raise InputError for options that have no effect on a scorer that is built already."""
    names = {"checkpoint", "device", "dtype", "offline", "parse_special_tokens", "revision", "threads"}
    if given := sorted(names & set(arguments)):
        raise InputError(f"{given!r} take effect only when weights are loaded; leave them out of from_scorer")


def refuse_unknown(arguments: Mapping[str, Any], valid: Sequence[str], model: str) -> None:
    """Raise InputError for an argument that is none of the valid options; the message lists them and a near match."""
    for name in arguments:
        if name == "first_stage":
            raise InputError(
                "first_stage belongs to one query: rerank(query, documents, first_stage=[...]), or for many queries "
                "requests of three items, (query, documents, first_stage)"
            )
        if name not in valid:
            near = near_matches(name, valid)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(f"unknown option {short(name)} for {model!r}. {hint}Valid options: {', '.join(valid)}")
