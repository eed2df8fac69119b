"""From YAML and ``--set a.b=c`` to a `Config`, every key and type checked; and back to a file.

An unknown key is an error that lists the known ones.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from rerank_core import InputError
from rerank_core.errors import near_matches, short
from rerank_core.records.record_files import format_from_name
from rerank_trainers.atomic_files import write_atomically
from rerank_trainers.config.schema import Config, ObjectiveConfig

__all__ = ["parse_config", "read_config", "set_values", "write_config"]


def read_config(path: str | PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML or JSON file.

    Raises:
        InputError: missing, not YAML, no mapping, or a file of data.
    """
    form, suffix = format_from_name(Path(path).name)
    if form is not None and suffix != ".json":
        raise InputError(
            f"{short(str(path))} is a file of data where the configuration belongs; name it as data.train (--train)"
        )
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"the configuration {short(str(path))} cannot be read: {error}") from error
    data = _parsed(text, f"the configuration {str(path)!r}")
    if not isinstance(data, dict):
        raise InputError(f"the configuration {str(path)!r} is {short(data)}; it must be a mapping")
    return data


def set_values(data: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A configuration with ``a.b=c`` written into it; the value is YAML. What is set wins.

    Raises:
        InputError: no ``KEY=VALUE``, or a key inside something that is no mapping.
    """
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise InputError(f"--set takes KEY=VALUE, like train.epochs=3, and got {assignment!r}")
        *parents, last = path.split(".")
        place = result
        for name in parents:
            if place.get(name) is None:
                place[name] = {}
            elif name == "objective" and isinstance(place[name], str):
                # An objective without options is its name.
                place[name] = {"name": place[name]}
            inner = place[name]
            if not isinstance(inner, dict):
                raise InputError(f"--set {assignment!r}: {name!r} is {short(inner)}, which has no keys")
            place = inner
        place[last] = _parsed(text, f"--set {short(assignment)}: the value")
    return result


def _parsed(text: str, what: str) -> Any:
    """The value that YAML spells.

    Raises:
        InputError: not YAML, or a date, a number or a depth that Python cannot hold.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{what} is not YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply") from error


def parse_config(data: Mapping[str, Any]) -> Config:
    """The checked configuration of a mapping.

    Raises:
        InputError: an unknown key, with near matches, or a value of the wrong type.
    """
    made: Config = _made(Config, data, "")
    return made


def write_config(config: Config, path: str | PathLike[str]) -> None:
    """Write the resolved configuration as JSON, which `read_config` reads again.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    text = json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False)
    write_atomically(path, text + "\n")


def _made(kind: Any, data: object, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise InputError(f"{where or 'the configuration'} is {short(data)}; it must be a mapping")
    hints = typing.get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    values = {}
    for key, value in data.items():
        name = f"{where}.{key}" if where else str(key)
        if key not in known:
            near = near_matches(key, known)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{name!r} is no setting.{hint} There are {', '.join(known)}")
        values[key] = _value(hints[key], value, name)
    missing = [
        item.name
        for item in fields(kind)
        if item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
        and item.name not in values
    ]
    if missing:
        raise InputError(f"{where} has no {' and no '.join(missing)}")
    return kind(**values)


def _value(hint: Any, value: Any, name: str) -> Any:
    """``value`` as its type says; what YAML and JSON write as a list becomes a tuple."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        (hint,) = (one for one in inner if one is not type(None))
        return _value(hint, value, name)
    if origin is Literal:
        if value not in inner or isinstance(value, bool):
            raise InputError(f"{name} is {short(value)}; it must be one of {', '.join(map(repr, inner))}")
        return value
    if origin is tuple:
        listed = [value] if isinstance(value, (str, Mapping)) else value
        if not isinstance(listed, (list, tuple)) or (inner[-1] is not Ellipsis and len(listed) != len(inner)):
            raise InputError(
                f"{name} is {short(value)}; it must be a list" + ("" if inner[-1] is Ellipsis else " of two")
            )
        kinds = [inner[0]] * len(listed) if inner[-1] is Ellipsis else inner
        return tuple(
            _value(kind, one, f"{name}[{at}]") for at, (kind, one) in enumerate(zip(kinds, listed, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        return _made(hint, {"name": value} if hint is ObjectiveConfig and isinstance(value, str) else value, name)
    if origin is not None or hint is Any:  # a mapping of options; whoever takes them checks them
        if not isinstance(value, Mapping):
            raise InputError(f"{name} is {short(value)}; it must be a mapping")
        return {str(key): one for key, one in value.items()} if inner[:1] == (str,) else dict(value)
    if hint is float:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            with contextlib.suppress(ValueError):  # YAML reads 2e-5 as a string
                if math.isfinite(float(value)):
                    return float(value)
        raise InputError(f"{name} is {short(value)}; it must be a finite number")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        # YAML 1.1, which PyYAML reads, takes a bare yes or no for a boolean.
        quoted = '; put it in quotes, like "yes"' if hint is str and isinstance(value, (bool, int, float)) else ""
        raise InputError(f"{name} is {short(value)}; it must be a {hint.__name__}{quoted}")
    return value
