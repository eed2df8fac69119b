"""`ModelOption`: an option that one model has beyond the common ones, typed and listed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rerank_core.errors import InputError, one_of, short

__all__ = ["ModelOption", "OptionType", "Secret"]

OptionType: TypeAlias = Literal["int", "float", "str", "bool", "ints", "counts"]

_SAYS: dict[str, str] = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "True or False",
    "ints": "an integer or a list of integers",
    "counts": "a mapping of integers to positive integers",
}


class Secret(str):
    """A string that does not show itself in the representation of what holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True)
class ModelOption:
    """An option of one model beyond the common ones, validated and listed by ``rerank models NAME``.

    Attributes:
        type: ``ints`` takes an integer or several, ``counts`` a mapping such as ``{8: 30}``.
        when: ``load`` (fixed once the model is loaded) or ``call`` (also given to ``rerank``).
        choices: the valid values; empty where any value of the type will do.
        written: how a value that is not empty stands in a template, ``{}`` for itself.
        secret: a string that no message and no representation shows; it still travels with a pickled reranker.
    """

    name: str
    type: OptionType
    help: str
    default: int | float | str | bool | tuple[int, ...] | None = None
    when: Literal["load", "call"] = "load"
    choices: tuple[int | float | str, ...] = ()
    written: str = "{}"
    secret: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise InputError(f"ModelOption({short(self.name)}): its name must be a Python identifier")
        one_of(self.type, tuple(_SAYS), f"ModelOption({self.name!r}).type")
        one_of(self.when, ("load", "call"), f"ModelOption({self.name!r}).when")
        if not isinstance(self.written, str) or self.written.count("{}") != 1:
            raise InputError(
                f"ModelOption({self.name!r}).written is {short(self.written)}; it must hold {{}} exactly once"
            )
        if not isinstance(self.help, str) or not isinstance(self.choices, tuple):
            raise InputError(f"ModelOption({self.name!r}): help must be a string and choices a tuple")
        object.__setattr__(self, "default", self.check(self.default))

    def check(self, value: object) -> Any:
        """The value as the model gets it: ``ints`` as a tuple, ``counts`` as a dict.

        Raises:
            InputError: ``value`` is not of the type or not among the choices.
        """
        if value is None and self.default is None:
            return None
        shown = "***" if self.secret else short(value)
        try:
            made = _made(self.type, value)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"option {self.name}={shown} must be {_SAYS[self.type]}: {self.help}") from None
        for item in made if isinstance(made, tuple) else (made,):
            if self.choices and item not in self.choices:
                raise InputError(f"option {self.name}={shown} must be one of {', '.join(map(repr, self.choices))}")
        return Secret(made) if self.secret else made

    def text(self, value: object) -> str:
        """How a value stands in a template."""
        return "" if value in (None, "") else self.written.replace("{}", str(value))


def _made(kind: OptionType, value: Any) -> Any:
    if kind == "ints":
        if isinstance(value, (str, bytes, Mapping)):
            raise TypeError
        items = tuple(value) if isinstance(value, Sequence) else (value,)
        if not items or not all(isinstance(item, int) and not isinstance(item, bool) for item in items):
            raise TypeError
        return items
    if kind == "counts":
        # JSON, and so the command line, has strings for keys.
        made = {int(key): count for key, count in dict(value).items()}
        if not all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in made.values()):
            raise TypeError
        return made
    kinds: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}
    if not isinstance(value, kinds[kind]) or (kind != "bool" and isinstance(value, bool)):
        raise TypeError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value
