"""From labels as a file has them to [0, 1], what every objective reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rerank_core.errors import InputError, short

__all__ = ["LabelScale"]


@dataclass(frozen=True)
class LabelScale:
    """The grades that labels may have, and how much each is worth.

    Linear between ``low`` and ``high``, anything between them allowed (a teacher's probability too), unless ``grades``
    lists what each label becomes.

    >>> LabelScale(0, 3)(2), LabelScale.named("rag-retrieval-2024")(0)
    (0.6666666666666666, 0.25)

    Raises:
        InputError: bounds that are not finite or not in order, or a grade's worth outside [0, 1].
    """

    low: float = 0.0
    high: float = 1.0
    grades: tuple[tuple[float, float], ...] | None = None

    NAMED: ClassVar[Mapping[str, tuple[float, float, tuple[tuple[float, float], ...] | None]]] = {
        "binary": (0.0, 1.0, None),
        "3-2-1-0": (0.0, 3.0, None),
        # RAG-Retrieval until December 2024: what is not relevant at all still has a quarter.
        "rag-retrieval-2024": (0.0, 3.0, ((0.0, 0.25), (1.0, 0.5), (2.0, 0.75), (3.0, 1.0))),
    }

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"labels from {self.low!r} to {self.high!r}: two finite numbers in order are needed")
        for label, worth in self.grades or ():
            if not (math.isfinite(label) and 0 <= worth <= 1):
                raise InputError(f"label {label!r} is worth {worth!r}; that must be from 0 to 1")

    @classmethod
    def named(cls, name: str) -> LabelScale:
        """``binary``, ``3-2-1-0`` (linear) or ``rag-retrieval-2024`` (3, 2, 1, 0 are worth 1, .75, .5, .25).

        Raises:
            InputError: another name.
        """
        if name not in cls.NAMED:
            raise InputError(f"label scale {short(name)}; known are {', '.join(cls.NAMED)}, or give LOW,HIGH")
        return cls(*cls.NAMED[name])

    @classmethod
    def of(cls, value: str | Sequence[float] | Mapping[str, float] | Mapping[float, float] | LabelScale) -> LabelScale:
        """What a config or an option says: a name, ``"LOW,HIGH"``, two numbers, or the worth of each label.

        >>> LabelScale.of("0,3") == LabelScale.of([0, 3]) == LabelScale.named("3-2-1-0")
        True
        >>> LabelScale.of({"bad": 0.0})
        Traceback (most recent call last):
        rerank_core.errors.InputError: label scale {'bad': 0.0}; it must be numbers

        Raises:
            InputError: anything else.
        """
        if isinstance(value, LabelScale):
            return value
        if isinstance(value, str) and "," not in value:
            return cls.named(value)
        try:
            if isinstance(value, Mapping):
                grades = tuple(sorted((float(label), float(worth)) for label, worth in value.items()))
                return cls(grades[0][0], grades[-1][0], grades)
            low, high = value.split(",") if isinstance(value, str) else value
            return cls(float(low), float(high))
        except InputError:
            raise
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(f"label scale {short(value)}; it must be numbers") from error

    def __call__(self, label: float) -> float:
        """What one label is worth, in [0, 1].

        Raises:
            InputError: a label outside the scale.
        """
        if self.grades is not None:
            for known, worth in self.grades:
                if known == label:
                    return worth
            raise InputError(f"label {label!r} is none of {', '.join(f'{known:g}' for known, _ in self.grades)}")
        if not self.low <= label <= self.high:
            raise InputError(
                f"label {label!r} is outside {self.low:g} to {self.high:g}; set the label scale to what the file has"
            )
        return (label - self.low) / (self.high - self.low)

    @property
    def floor(self) -> float:
        """What an irrelevant document is worth: no label is worth less."""
        return 0.0 if self.grades is None else min(worth for _, worth in self.grades)

    def gain(self, label: float) -> float:
        """How much more a label is than the lowest, in the labels' own steps; what no more is worth gains nothing.

        >>> LabelScale(1, 4).gain(2.5), LabelScale.of({2: 1, 1: 0, 0: 0}).gain(1)
        (1.5, 0.0)

        Raises:
            InputError: a label that is none of those whose worth is listed.
        """
        if self.grades is None:
            return max(0.0, label - self.low)
        worth, known = self(label), sorted({worth for _, worth in self.grades})
        rises = [worth for _, worth in self.grades] == known
        # A list that puts labels together, or turns them round, has grades of its own.
        return label - self.low if rises else float(known.index(worth))

    def apply(self, labels: Sequence[float]) -> tuple[float, ...]:
        """What each label is worth.

        Raises:
            InputError: a label outside the scale.
        """
        return tuple(self(label) for label in labels)
