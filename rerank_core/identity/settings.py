"""The settings on which scores, or stored embeddings, depend, as plain data: the spec and the options combined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

from rerank_core.errors import InputError, short
from rerank_core.options import Options
from rerank_core.planning.longdoc import FirstP, KMaxP, MaxP, MeanP
from rerank_core.planning.row_plan import Rules
from rerank_core.spec import ModelSpec
from rerank_core.spec.compat import CompatProfile

__all__ = ["index_settings", "plain", "score_settings"]

# A strategy decides how scores of windows combine; the index holds the windows alone.
_WINDOWS = {MaxP: "all", MeanP: "all", KMaxP: "all", FirstP: "first"}


def index_settings(spec: ModelSpec, rules: Rules, options: Options) -> dict[str, Any]:
    """The settings that an index in a folder must have been made with; weights are not among them."""
    strategy = type(rules.longdoc)
    return {
        "template": asdict(spec.template),
        "head": None if spec.head is None else asdict(spec.head),
        "max_length": rules.max_length,
        "windows": _WINDOWS.get(strategy)
        or f"{strategy.__module__}.{strategy.__qualname__} {getattr(rules.longdoc, '__dict__', rules.longdoc)!r}",
        "overlap": rules.overlap,
        "parse_special_tokens": options.parse_special_tokens,
        "options": {name: value for name, value in _values(spec, options) if _at_load(spec, name)},
    }


def score_settings(spec: ModelSpec, rules: Rules, profile: CompatProfile | None, options: Options) -> dict[str, Any]:
    """The settings on which raw scores depend beside the model's files. The name of the model, the place of its files,
    the activation and the calibration are not among them.

    Raises:
        InputError: a ``longdoc`` strategy of a class of the caller's own whose state is not plain data.
    """
    return {
        "template": plain(spec.template),
        "head": plain(spec.head),
        "scorer": spec.scorer,
        "score_space": spec.raw_space,
        "max_length": rules.max_length,
        "max_query_length": rules.max_query_length,
        "longdoc": plain(rules.longdoc),
        "overlap": rules.overlap,
        "compat": plain(profile),
        "parse_special_tokens": options.parse_special_tokens,
        "dtype": options.dtype or "float32",
        "options": {name: plain(value) for name, value in _values(spec, options)},
        "written": {option.name: option.written for option in spec.options if option.written != "{}"},
    }


def plain(value: object) -> Any:
    """A value as JSON that is equal for equal values in every process and in later versions: of a dataclass, the fields
    that differ from their defaults.

    Raises:
        InputError: a value whose state cannot be read.
    """
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    kind = type(value)
    if is_dataclass(value):
        state = {item.name: getattr(value, item.name) for item in fields(value)}
        defaults = {item.name: item.default for item in fields(value) if item.default is not MISSING}
        state = {name: item for name, item in state.items() if name not in defaults or item != defaults[name]}
    elif hasattr(value, "__dict__") and not callable(value):
        state = vars(value)
    else:
        raise InputError(
            f"{short(value)} is a {kind.__name__}, whose state cannot be read, so that a model with it has no "
            "fingerprint; make it a dataclass of numbers and texts"
        )
    own = kind.__module__.startswith("rerank_core.")
    return {"": kind.__qualname__ if own else f"{kind.__module__}.{kind.__qualname__}", **plain(state)}


def _values(spec: ModelSpec, options: Options) -> list[tuple[str, Any]]:
    """The values of the model's own options on which scores depend."""
    kept = [option for option in spec.options if option.changes_scores and not option.secret]
    values = [(option, options.model.get(option.name, option.default)) for option in kept]
    return [
        (option.name, float(value) if option.type == "float" and value is not None else value)
        for option, value in values
    ]


def _at_load(spec: ModelSpec, name: str) -> bool:
    return any(option.name == name and option.when == "load" for option in spec.options)
