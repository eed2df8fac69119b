"""Parses YAML and ``--set a.b=c`` into a `Config` and writes it back to a file; every key and type is checked."""

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
from rerank_trainers.config.schema import Config, EvalSet, ObjectiveConfig

__all__ = ["parse_config", "read_config", "set_values", "write_config"]

_TYPE_NAMES: Mapping[type, str] = {bool: "true or false", int: "an integer", str: "a string"}


def read_config(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the mapping in a YAML or JSON file.

    Raises:
        InputError: the file is missing, is not YAML, holds no mapping, or is a data file by its suffix.
    """
    form, suffix = format_from_name(Path(path).name)
    if form is not None and suffix != ".json":
        raise InputError(
            f"{short(str(path))} is a data file, and a configuration file is expected here; "
            "name it as data.train (--train)"
        )
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"the configuration {short(str(path))} cannot be read: {error}") from error
    data = _parse_yaml(text, f"the configuration {str(path)!r}")
    if not isinstance(data, dict):
        raise InputError(f"the configuration {str(path)!r} is {short(data)}; it must be a mapping")
    return data


def set_values(data: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of a configuration with ``a.b=c`` assignments applied, whose values are YAML.

    Raises:
        InputError: an assignment that is not ``KEY=VALUE``, or a key below a value that is not a mapping.
    """
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise InputError(f"--set takes KEY=VALUE, like train.epochs=3, and got {assignment!r}")
        *parents, last = path.split(".")
        section = result
        for name in parents:
            if section.get(name) is None:
                section[name] = {}
            elif name == "objective" and isinstance(section[name], str):
                # An objective without options may be written as its name alone.
                section[name] = {"name": section[name]}
            inner = section[name]
            if not isinstance(inner, dict):
                raise InputError(f"--set {assignment!r}: {name!r} is {short(inner)}, which has no keys")
            section = inner
        section[last] = _parse_yaml(text, f"--set {short(assignment)}: the value")
    return result


def _parse_yaml(text: str, what: str) -> Any:
    """The value of a YAML text.

    Raises:
        InputError: the text is not YAML, or has an invalid date or number, or is nested too deeply for Python.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{what} is not YAML: {error}") from error
    except RecursionError as error:
        raise InputError(f"{what} is nested too deeply") from error


def parse_config(data: Mapping[str, Any]) -> Config:
    """Build the configuration from a mapping.

    Raises:
        InputError: an unknown key (a similar known key is suggested) or a value of the wrong type.
    """
    config: Config = _parse_dataclass(Config, data, "")
    return config


def write_config(config: Config, path: str | PathLike[str]) -> None:
    """Write the configuration, defaults included, as JSON that `read_config` reads.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    text = json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False)
    write_atomically(path, text + "\n")


def _parse_dataclass(kind: Any, data: object, path: str) -> Any:
    """An instance of the dataclass ``kind`` from a mapping; ``path`` is the dotted key of the mapping."""
    if not isinstance(data, Mapping):
        raise InputError(f"{path or 'the configuration'} is {short(data)}; it must be a mapping")
    hints = typing.get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    values = {}
    for key, value in data.items():
        name = f"{path}.{key}" if path else str(key)
        if key not in known:
            near = near_matches(key, known)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise InputError(f"{name!r} is not a setting.{hint} Valid here: {', '.join(known)}")
        values[key] = _parse_value(hints[key], value, name)
    missing = [
        item.name
        for item in fields(kind)
        if item.default is dataclasses.MISSING
        and item.default_factory is dataclasses.MISSING
        and item.name not in values
    ]
    if missing:
        raise InputError(f"{path} has no {' and no '.join(missing)}")
    return kind(**values)


def _has_keys(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint) or get_origin(hint) is Mapping


def _parse_value(hint: Any, value: Any, name: str) -> Any:
    """``value`` converted to its annotated type; a list becomes a tuple."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        options = [option for option in inner if option is not type(None)]
        # Of several types, such as a path or a file with a weight, a mapping is the one that has keys.
        fitting = [option for option in options if _has_keys(option) == isinstance(value, Mapping)]
        return _parse_value((fitting or options)[0], value, name)
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
            _parse_value(kind, item, f"{name}[{index}]")
            for index, (kind, item) in enumerate(zip(kinds, listed, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        # An objective may be written as its name, and a dev set as its files.
        if hint is ObjectiveConfig and isinstance(value, str):
            value = {"name": value}
        elif hint is EvalSet and isinstance(value, (str, list, tuple)):
            value = {"files": value}
        return _parse_dataclass(hint, value, name)
    if origin is not None or hint is Any:  # options, which the code that uses them checks
        if not isinstance(value, Mapping):
            raise InputError(f"{name} is {short(value)}; it must be a mapping")
        if inner[1:] == (EvalSet,):
            return {str(key): _parse_value(EvalSet, item, f"{name}.{key}") for key, item in value.items()}
        return {str(key): item for key, item in value.items()} if inner[:1] == (str,) else dict(value)
    if hint is float:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            with contextlib.suppress(ValueError):  # YAML reads 2e-5 as a string
                if math.isfinite(float(value)):
                    return float(value)
        raise InputError(f"{name} is {short(value)}; it must be a finite number")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        # In YAML 1.1, which PyYAML reads, an unquoted yes or no is a boolean.
        quoted = '; put it in quotes, like "yes"' if hint is str and isinstance(value, (bool, int, float)) else ""
        raise InputError(f"{name} is {short(value)}; it must be {_TYPE_NAMES[hint]}{quoted}")
    return value
