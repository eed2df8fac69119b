"""The filters of ``rerank models``: by words, language, licence and size."""

from __future__ import annotations

import re
from dataclasses import dataclass

import typer

from rerank_core.spec import ModelSpec
from rerank_core.spec.license import is_non_commercial

__all__ = ["ModelFilters", "size_of", "size_text"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmb]?)", re.IGNORECASE)


@dataclass(frozen=True)
class ModelFilters:
    """Which models to list; a model must pass every filter that is set.

    Attributes:
        search: words that must occur in a model's names, description, languages or licence.
        language: a language code that the model's ``languages`` list; ``multilingual`` ones pass too.
        license: a part of the licence's name.
        commercial: leave out models whose licence allows no commercial use.
        max_parameters: the most weights of a model; models of unknown size do not pass.
    """

    search: str | None = None
    language: str | None = None
    license: str | None = None
    commercial: bool = False
    max_parameters: int | None = None

    def __bool__(self) -> bool:
        return self != ModelFilters()

    def passes(self, spec: ModelSpec) -> bool:
        """Whether a model passes."""
        facts = (*spec.names, spec.description, *spec.languages, spec.license)
        text = " ".join(facts).lower()
        if any(word not in text for word in (self.search or "").lower().split()):
            return False
        if self.language is not None and not {self.language.lower(), "multilingual"} & {*spec.languages}:
            return False
        if self.license is not None and self.license.lower() not in spec.license.lower():
            return False
        if self.commercial and is_non_commercial(spec.license):
            return False
        most = self.max_parameters
        return most is None or (spec.parameters is not None and spec.parameters <= most)


def size_of(text: str) -> int:
    """The number of weights that a text like ``600M`` or ``1.5B`` says.

    Raises:
        typer.BadParameter: no such number.

    >>> size_of("1.5B"), size_of("33m"), size_of("1000")
    (1500000000, 33000000, 1000)
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no number of weights like 600M or 1.5B")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def size_text(parameters: int | None) -> str:
    """A number of weights with two or three digits; nothing where it is unknown.

    >>> [size_text(count) for count in (22_700_000, 567_800_000, 1_540_000_000, 8_190_000_000, 950_000, None)]
    ['22.7M', '568M', '1.54B', '8.19B', '950K', '']
    """
    if parameters is None:
        return ""
    for name, unit in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if parameters >= 0.9995 * unit:
            return f"{parameters / unit:.3g}{name}"
    return str(parameters)
