"""Letters and colours that stand for models in plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rerank_eval.report.charts.drawing import COLOURS

__all__ = ["Labels", "letter"]


def letter(number: int) -> str:
    """A, B, ... Z, AA, AB, ...

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'AA')
    """
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


@dataclass(frozen=True)
class Labels:
    """The models of an evaluation. A model has the same letter and colour in all sets."""

    models: Sequence[str]

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each model, which chooses its colour."""
        return {name: at for at, name in enumerate(self.models)}

    @property
    def letters(self) -> dict[str, str]:
        """The letter of each model."""
        return {name: letter(at) for at, name in enumerate(self.models)}

    def css(self, name: str) -> str:
        """The class of the style sheet that has the model's colour."""
        return f"k{self.numbers[name] % COLOURS}"
