"""`ModelOption`: a typed option that one model has beyond the common ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rerank_core.errors import InputError, one_of, short

__all__ = ["ModelOption", "OptionType", "Secret"]

OptionType: TypeAlias = Literal["int", "float", "str", "name", "bool", "ints", "counts"]

_TYPE_TEXT: dict[str, str] = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "name": "a string, or an integer",
    "bool": "True or False",
    "ints": "an integer or a list of integers",
    "counts": "a mapping of integers to positive integers",
}


class Secret(str):
    """A string whose ``repr`` is ``***``, so that no message or log shows it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True)
class ModelOption:
    """An option of one model beyond the common ones, validated and listed by ``rerank models NAME``.

    Attributes:
        type: ``ints`` takes an integer or a list of integers, ``counts`` a mapping such as ``{8: 30}``, ``name`` a
            string, or an integer, which becomes its decimal text (a command line reads a number as one).
        when: ``load`` (fixed when the model is loaded) or ``call`` (can also be passed to ``rerank``).
        choices: the valid values; empty where every value of the type is valid.
        written: the text that replaces a non-empty value's placeholder in a template; ``{}`` stands for the value.
        secret: the value is shown in no message and no ``repr``; a pickled reranker does contain it.
        changes_scores: whether scores depend on the value. False for a time limit and the like: a secret option, and
            one with False, is no part of `Reranker.fingerprint`.
    """

    name: str
    type: OptionType
    help: str
    default: int | float | str | bool | tuple[int, ...] | None = None
    when: Literal["load", "call"] = "load"
    choices: tuple[int | float | str, ...] = ()
    written: str = "{}"
    secret: bool = False
    changes_scores: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise InputError(f"ModelOption({short(self.name)}): its name must be a Python identifier")
        one_of(self.type, tuple(_TYPE_TEXT), f"ModelOption({self.name!r}).type")
        one_of(self.when, ("load", "call"), f"ModelOption({self.name!r}).when")
        if not isinstance(self.written, str) or self.written.count("{}") != 1:
            raise InputError(
                f"ModelOption({self.name!r}).written is {short(self.written)}; it must hold {{}} exactly once"
            )
        if not isinstance(self.help, str) or not isinstance(self.choices, tuple):
            raise InputError(f"ModelOption({self.name!r}): help must be a string and choices a tuple")
        object.__setattr__(self, "default", self.check(self.default))

    def check(self, value: object) -> Any:
        """The value, converted: ``ints`` to a tuple, ``counts`` to a dict.

        Raises:
            InputError: ``value`` does not have the type or is not among the choices.
        """
        if value is None and self.default is None:
            return None
        shown = "***" if self.secret else short(value)
        try:
            converted = _converted(self.type, value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"option {self.name}={shown} must be {_TYPE_TEXT[self.type]}: {self.help}") from None
        for item in converted if isinstance(converted, tuple) else (converted,):
            if self.choices and item not in self.choices:
                raise InputError(f"option {self.name}={shown} must be one of {', '.join(map(repr, self.choices))}")
        return Secret(converted) if self.secret else converted

    def text(self, value: object) -> str:
        """The text of a value in a template."""
        return "" if value in (None, "") else self.written.replace("{}", str(value))


def _converted(kind: OptionType, value: Any) -> Any:
    if kind == "ints":
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError
        items = tuple(value) if isinstance(value, Sequence) else (value,)
        if not items or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise TypeError
        return items
    if kind == "counts":
        # Keys of JSON objects, and so those of the command line, are strings.
        counts = {int(key): count for key, count in dict(value).items()}
        if not all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in counts.values()):
            raise TypeError
        return counts
    if kind == "name" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    types: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "str": (str,),
        "name": (str,),
        "bool": (bool,),
    }
    if not isinstance(value, types[kind]) or (kind != "bool" and isinstance(value, bool)):
        raise TypeError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value
