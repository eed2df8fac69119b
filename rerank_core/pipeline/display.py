"""How raw scores are shown: the activations. They change what is shown, never the order."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rerank_core.errors import InputError, short
from rerank_core.options import CallOptions, Options
from rerank_core.planning.longdoc import longdoc_of
from rerank_core.planning.row_plan import Rules
from rerank_core.spec import ModelSpec
from rerank_core.types import ScoreSpace

__all__ = ["COMBINED", "Display", "Displays", "sigmoid"]


def sigmoid(x: float) -> float:
    """The logistic function in float64, without overflow.

    >>> sigmoid(0.0), sigmoid(-1000.0)
    (0.5, 0.0)
    """
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    z = math.exp(x)
    return z / (1.0 + z)


@dataclass(frozen=True)
class Display:
    """How the raw scores of a model are shown; the order is that of the raw scores.

    Attributes:
        activation: ``none``, ``sigmoid`` or ``probability``.
        space: the space of the scores after it.
        of: from a raw score to the score that is shown; it never falls where the raw score rises.
    """

    activation: str
    space: ScoreSpace
    of: Callable[[float], float] = float


COMBINED = Display("none", "combined")


@dataclass(frozen=True)
class Displays:
    """The ways to show a model's scores.

    Attributes:
        space: the space of the raw scores.
        options, rules: those of every call.
        calibration: the probability of a raw score, from a calibration file; None without one.

    Raises:
        InputError: the activation that was given to ``load`` cannot be that of this model.
    """

    spec: ModelSpec
    space: ScoreSpace
    options: Options
    rules: Rules
    calibration: Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        self.named(self.options.activation)

    def named(self, activation: str) -> Display:
        """The display by an activation.

        Raises:
            InputError: it is a sigmoid and the scores are no logits, or a probability and nothing says which.
        """
        chosen = activation
        if activation == "default":
            chosen = self.spec.activation if self.calibration is None else "probability"
        if chosen == "none":
            return Display(chosen, self.space)
        if chosen == "probability" and self.calibration is not None:
            return Display(chosen, "probability", self.calibration)
        if chosen == "probability" and not self.spec.calibrated:
            sigmoid_too = "; activation='sigmoid' shows the sigmoid, which is not calibrated" * (self.space == "logit")
            raise InputError(
                f"activation='probability' needs a calibration, and {self.spec.name!r} was loaded without one: make it "
                "with `rerank eval --calibrate` on documents with labels, and give it to load (calibration=FILE)"
                f"{sigmoid_too}"
            )
        if self.space != "logit":
            raise InputError(
                f"activation={activation!r} needs logits, and {self.spec.name!r} gives {self.space!r} scores; use "
                "'none'"
            )
        return Display(chosen, "probability", sigmoid)

    def of_call(self, call: CallOptions) -> Display:
        """The display of a call's ranking.

        Raises:
            InputError: see `named`; scores are combined, which an activation would have no effect on; or options of
                the call change the scores that were calibrated.
        """
        loaded = self.options.activation
        if call.combine is None:
            display = self.named(call.activation or loaded)
            if display.of is self.calibration:
                _check_call(call, self.options, self.rules, self.spec.name)
            return display
        for given, where in (
            (call.activation or "none", ""),
            ("none" if loaded == "default" else loaded, ", given to load,"),
        ):
            if given != "none":
                raise InputError(
                    f"activation={given!r}{where} has no effect with combine, which takes the models' raw scores; "
                    "leave one of them out"
                )
        return COMBINED


def _check_call(call: CallOptions, options: Options, rules: Rules, name: str) -> None:
    """Refuse options of a call with which a model's scores are not those that were calibrated.

    Raises:
        InputError: ``longdoc``, ``overlap`` or an option of the model that differs from its value at load.
    """
    changed = {key: value for key, value in call.model.items() if value != options.model.get(key)}
    if call.longdoc is not None and longdoc_of(call.longdoc) != rules.longdoc:
        changed["longdoc"] = call.longdoc
    if call.overlap is not None and call.overlap != rules.overlap:
        changed["overlap"] = call.overlap
    if changed:
        given = ", ".join(f"{key}={short(value)}" for key, value in changed.items())
        raise InputError(
            f"{given} changes the scores of {name!r}, and its calibration was made without; give it to load and make a "
            "calibration with it, or pass activation='none'"
        )
