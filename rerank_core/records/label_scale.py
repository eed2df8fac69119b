"""Maps the labels of a file to relevance targets in [0, 1], which every objective reads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rerank_core.errors import InputError, short

__all__ = ["LabelScale"]


@dataclass(frozen=True)
class LabelScale:
    """The range of the labels and the target of each label.

    The target is linear between ``low`` (0) and ``high`` (1), and every number between them is a valid label, for
    example a teacher's probability; unless ``grades`` lists the pairs of label and target, which then are the only
    valid labels.

    >>> LabelScale(0, 3)(2), LabelScale.named("rag-retrieval-2024")(0)
    (0.6666666666666666, 0.25)

    Raises:
        InputError: the bounds are not finite or not in ascending order, or a target is outside [0, 1].
    """

    low: float = 0.0
    high: float = 1.0
    grades: tuple[tuple[float, float], ...] | None = None

    NAMED: ClassVar[Mapping[str, tuple[float, float, tuple[tuple[float, float], ...] | None]]] = {
        "binary": (0.0, 1.0, None),
        "3-2-1-0": (0.0, 3.0, None),
        # RAG-Retrieval until December 2024: a label of 0, not relevant, has a target of 0.25.
        "rag-retrieval-2024": (0.0, 3.0, ((0.0, 0.25), (1.0, 0.5), (2.0, 0.75), (3.0, 1.0))),
    }

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"labels from {self.low!r} to {self.high!r}: give two finite numbers in ascending order")
        for label, target in self.grades or ():
            if not (math.isfinite(label) and 0 <= target <= 1):
                raise InputError(f"the target of label {label!r} is {target!r}; it must be from 0 to 1")

    @classmethod
    def named(cls, name: str) -> LabelScale:
        """A named scale: ``binary``, ``3-2-1-0`` (linear) or ``rag-retrieval-2024`` (3, 2, 1, 0: 1, .75, .5, .25).

        Raises:
            InputError: no scale has this name.
        """
        if name not in cls.NAMED:
            raise InputError(f"label scale {short(name)} is unknown; use one of {', '.join(cls.NAMED)}, or LOW,HIGH")
        return cls(*cls.NAMED[name])

    @classmethod
    def of(cls, value: str | Sequence[float] | Mapping[str, float] | Mapping[float, float] | LabelScale) -> LabelScale:
        """Parse the value of a configuration or an option: a name, ``"LOW,HIGH"``, two numbers, or label to target.

        >>> LabelScale.of("0,3") == LabelScale.of([0, 3]) == LabelScale.named("3-2-1-0")
        True
        >>> LabelScale.of({"bad": 0.0})
        Traceback (most recent call last):
        rerank_core.errors.InputError: label scale {'bad': 0.0} must consist of numbers

        Raises:
            InputError: the value is none of these.
        """
        if isinstance(value, LabelScale):
            return value
        if isinstance(value, str) and "," not in value:
            return cls.named(value)
        try:
            if isinstance(value, Mapping):
                grades = tuple(sorted((float(label), float(target)) for label, target in value.items()))
                return cls(grades[0][0], grades[-1][0], grades)
            low, high = value.split(",") if isinstance(value, str) else value
            return cls(float(low), float(high))
        except InputError:
            raise
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(f"label scale {short(value)} must consist of numbers") from error

    def __call__(self, label: float) -> float:
        """The target of a label, in [0, 1].

        Raises:
            InputError: the label is outside the scale.
        """
        if self.grades is not None:
            for known, target in self.grades:
                if known == label:
                    return target
            raise InputError(f"label {label!r} is not one of {', '.join(f'{known:g}' for known, _ in self.grades)}")
        if not self.low <= label <= self.high:
            raise InputError(
                f"label {label!r} is outside {self.low:g} to {self.high:g}; set the label scale to match the file"
            )
        return (label - self.low) / (self.high - self.low)

    @property
    def floor(self) -> float:
        """The target of an irrelevant document, the lowest of all labels."""
        return 0.0 if self.grades is None else min(target for _, target in self.grades)

    def gain(self, label: float) -> float:
        """The gain of a label for NDCG: its distance from the lowest label; 0 for every label with the lowest target.

        >>> LabelScale(1, 4).gain(2.5), LabelScale.of({2: 1, 1: 0, 0: 0}).gain(1)
        (1.5, 0.0)

        Raises:
            InputError: ``grades`` is set and does not list the label.
        """
        if self.grades is None:
            return max(0.0, label - self.low)
        target, known = self(label), sorted({target for _, target in self.grades})
        rises = [target for _, target in self.grades] == known
        # Where several labels share a target, or targets fall as labels rise, the gain is the rank of the target.
        return label - self.low if rises else float(known.index(target))

    def apply(self, labels: Sequence[float]) -> tuple[float, ...]:
        """The target of each label.

        Raises:
            InputError: a label is outside the scale.
        """
        return tuple(self(label) for label in labels)
