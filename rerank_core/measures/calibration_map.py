"""`CalibrationMap`: from a raw score to a probability of relevance, as plain data."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

from rerank_core.errors import InputError, one_of, short

__all__ = ["CalibrationMap", "Method"]

Method = Literal["platt", "temperature", "isotonic"]


@dataclass(frozen=True)
class CalibrationMap:
    """Maps a raw score to a probability in [0, 1]. A higher score never gets a lower probability.

    ``platt`` (Platt, 1999) and ``temperature`` (Guo et al., 2017) are ``sigmoid(scale * score + offset)``; the scale is
    1 / temperature, and a temperature has no offset. ``isotonic`` (Zadrozny & Elkan, 2002) is linear between points and
    constant outside them, so that several scores may share one probability: sort by the score, not by the probability.

    >>> CalibrationMap("platt", scale=2.0, offset=-1.0)(0.5)
    0.5
    >>> CalibrationMap("isotonic", points=((0.0, 0.1), (2.0, 0.9)))(1.0)
    0.5

    Attributes:
        scale, offset: of ``platt`` and ``temperature``; the scale is above 0.
        points: of ``isotonic``: ``(score, probability)``, scores increasing, probabilities not decreasing.

    Raises:
        InputError: an unknown method, numbers that are not finite or out of range, points in another order, or
            values that the method does not use.
    """

    method: Method
    scale: float = 1.0
    offset: float = 0.0
    points: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        one_of(self.method, get_args(Method), "the method of a calibration")
        if self.method == "isotonic":
            if (self.scale, self.offset) != (1.0, 0.0):
                raise InputError(f"an isotonic calibration has points, and no scale {self.scale!r} or {self.offset!r}")
            _check_points(self.points)
            return
        if self.points:
            raise InputError(f"a calibration by {self.method!r} has a scale, and no points {short(self.points)}")
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.offset)):
            raise InputError(
                f"the scale of a calibration is {self.scale!r} and its offset {self.offset!r}; the scale must be above "
                "0 and both finite, or the order of documents would change. Scores that fall with relevance cannot be "
                "calibrated: check the labels"
            )
        if self.method == "temperature" and self.offset:
            raise InputError(f"a temperature has no offset, and this one has {self.offset!r}; use 'platt'")

    def __call__(self, score: float) -> float:
        """The probability of a score.

        Raises:
            InputError: a score that is not finite.
        """
        if not math.isfinite(score):
            raise InputError(f"a score of {score!r} has no probability; only finite scores do")
        if self.method != "isotonic":
            return _sigmoid(self.logit(score))
        at = bisect_right(self.points, score, key=lambda point: point[0])
        if at in (0, len(self.points)):
            return self.points[max(at - 1, 0)][1]
        (left, low), (right, high) = self.points[at - 1 : at + 1]
        # Halved, since the distance of two finite scores may be infinite.
        share = (score / 2 - left / 2) / (right / 2 - left / 2)
        return min(high, low + share * (high - low))

    def logit(self, score: float) -> float:
        """``scale * score + offset``, of which ``platt`` and ``temperature`` take the sigmoid.

        Raises:
            InputError: an isotonic calibration, which has no scale.
        """
        if self.method == "isotonic":
            raise InputError("an isotonic calibration has points and no scale, so it cannot be written as a logit")
        return self.scale * score + self.offset

    def score_from(self, probability: float) -> float | None:
        """The lowest score from which on the probability is this or more: -inf where every score has it, None where no
        score has.

        >>> CalibrationMap("platt", scale=2.0, offset=-1.0).score_from(0.5)
        0.5
        >>> CalibrationMap("isotonic", points=((0.0, 0.1), (2.0, 0.9))).score_from(0.95) is None
        True

        Raises:
            InputError: the probability is not above 0 and below 1.
        """
        if not 0 < probability < 1:
            raise InputError(f"the probability is {probability!r}; it must be above 0 and below 1")
        if self.method != "isotonic":
            return (math.log(probability / (1 - probability)) - self.offset) / self.scale
        at = next((at for at, point in enumerate(self.points) if point[1] >= probability), None)
        if at is None or at == 0:
            return None if at is None else -math.inf
        (left, low), (right, high) = self.points[at - 1 : at + 1]
        share = (probability - low) / (high - low)
        return left * (1 - share) + right * share

    def to_json(self) -> dict[str, Any]:
        """The map as a JSON object, with the values that its method uses.

        >>> CalibrationMap("temperature", scale=0.5).to_json()
        {'method': 'temperature', 'scale': 0.5}
        """
        if self.method == "isotonic":
            return {"method": self.method, "points": [list(point) for point in self.points]}
        data: dict[str, Any] = {"method": self.method, "scale": self.scale}
        return data if self.method == "temperature" else {**data, "offset": self.offset}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CalibrationMap:
        """The map that `to_json` wrote, from an untrusted file.

        Raises:
            InputError: not such an object: a key that is missing or unknown, or a value of another type or range.
        """
        if not isinstance(data, Mapping):
            raise InputError(f"a calibration is {short(data)}; it must be a JSON object")
        method = data.get("method")
        one_of(method, get_args(Method), "the method of a calibration")
        keys = {"platt": {"scale", "offset"}, "temperature": {"scale"}, "isotonic": {"points"}}[str(method)]
        if wrong := set(data) ^ (keys | {"method"}):
            raise InputError(
                f"a calibration by {method!r} has the keys method, {', '.join(sorted(keys))}, and this one has "
                f"{short(sorted(map(str, data)))}; wrong or missing: {short(sorted(map(str, wrong)))}"
            )
        if method != "isotonic":
            return cls(method, **{key: _number(data[key], key) for key in keys})  # type: ignore[arg-type]
        points = data["points"]
        if not isinstance(points, list) or not all(isinstance(one, list) and len(one) == 2 for one in points):
            raise InputError(f"the points of a calibration are {short(points)}; they must be pairs of two numbers")
        return cls("isotonic", points=tuple((_number(x, "points"), _number(y, "points")) for x, y in points))


def _sigmoid(logit: float) -> float:
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1 + power)


def _check_points(points: tuple[tuple[float, float], ...]) -> None:
    if not points:
        raise InputError("an isotonic calibration needs one point or more, and has none")
    for point in points:
        if not (math.isfinite(point[0]) and 0 <= point[1] <= 1):
            raise InputError(f"the point {point!r} of a calibration is not a finite score with a probability in [0, 1]")
    for one, following in pairwise(points):
        if not (one[0] < following[0] and one[1] <= following[1]):
            raise InputError(
                f"the points {one!r} and {following!r} of a calibration are out of order: scores must increase, and "
                "probabilities must not decrease"
            )


def _number(value: object, key: str) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise InputError(f"{key} of a calibration is {short(value)}; it must be a number")
