"""A reranker as a judge: its raw scores, which become 0 or 1."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rerank_core import InputError, Reranker, RerankError, Scorer
from rerank_core.measures import CalibrationMap
from rerank_eval.judging.judge import Pair, Verdict

__all__ = ["ModelJudge", "orders_lists"]

# Pairs that are scored in one call, after which their scores are kept.
_BLOCK = 64


def orders_lists(name: str) -> InputError:
    """The error of a judge that is listwise."""
    return InputError(
        f"{name!r} orders lists and gives no document a score, so it cannot judge; use a model with scores, or a chat "
        "model behind --judge-url"
    )


@dataclass
class ModelJudge:
    """Scores pairs with a loaded model.

    Attributes:
        name: the name given to `load`.
        cut: the raw score from which a document counts as relevant: that of a probability of 0.5. None where the scores
            are no probability, so that only labels can tell it.
        is_calibrated: whether the model has a calibration, in its weights or given to `load`.

    Raises:
        InputError: the model orders lists, so that a pair has no score, or its calibration calls no score relevant.
    """

    reranker: Reranker
    name: str
    is_graded: bool = field(default=False, init=False)
    identity: str = field(init=False)
    cut: float | None = field(init=False)
    is_calibrated: bool = field(init=False)

    def __post_init__(self) -> None:
        space = self.reranker.spec.raw_space
        scorer = self.reranker.scorer
        if space == "rank" or (hasattr(scorer, "rank") and not isinstance(scorer, Scorer)):
            raise orders_lists(self.name)
        self.identity = self.reranker.fingerprint
        # Weights that hold a calibration give logits.
        self.cut = {"logit": 0.0, "probability": 0.5}.get(space)
        self.is_calibrated = bool(self.reranker.spec.calibrated)
        if self.reranker.options.calibration is not None:
            self.cut, self.is_calibrated = self._cut_of(Path(self.reranker.options.calibration)), True

    def _cut_of(self, path: Path) -> float:
        """The cut of a calibration file, which `load` has checked."""
        data = json.loads(path.read_bytes())
        values = {key: data[key] for key in ("method", "scale", "offset", "points") if key in data}
        cut = CalibrationMap.from_json(values).score_from(0.5)
        if cut is None or not math.isfinite(cut):
            which = "none" if cut is None else "every one"
            raise InputError(
                f"the calibration {str(path)!r} gives {which} of the scores of {self.name!r} a probability of 0.5, so "
                "that it tells nothing apart; make one on data with relevant and irrelevant documents, or leave it out"
            )
        return cut

    def verdicts(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """See `Judge.verdicts`. A pair that the model cannot score is a failed verdict."""
        for start in range(0, len(pairs), _BLOCK):
            block = pairs[start : start + _BLOCK]
            try:
                verdicts = [Verdict(score) for score in self._scores(block)]
            except RerankError:
                # One text of the block is at fault: find it.
                verdicts = [self._alone(pair) for pair in block]
            yield from enumerate(verdicts, start)

    def _scores(self, pairs: Sequence[Pair]) -> list[float]:
        """Raw scores; a model that follows instructions gets that of each query, as in the evaluation."""
        takes = any(option.name == "instruction" for option in self.reranker.spec.options)
        scores = [0.0] * len(pairs)
        for instruction in dict.fromkeys(pair.instruction if takes else None for pair in pairs):
            places = [at for at, pair in enumerate(pairs) if not takes or pair.instruction == instruction]
            options: Mapping[str, Any] = {} if instruction is None else {"instruction": instruction}
            found = self.reranker.score([(pairs[at].query, pairs[at].text) for at in places], **options)
            for at, score in zip(places, found, strict=True):
                scores[at] = score
        return scores

    def _alone(self, pair: Pair) -> Verdict:
        try:
            return Verdict(self._scores([pair])[0])
        except RerankError as error:
            return Verdict(None, error=str(error)[:300])

    def close(self) -> None:
        """Close the model."""
        self.reranker.close()
