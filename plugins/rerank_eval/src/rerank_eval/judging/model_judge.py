"""A reranker as a judge: its raw scores, which become 0 or 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rerank_core import InputError, Reranker, RerankError, Scorer
from rerank_eval.judging.judge import Pair, Verdict

__all__ = ["ModelJudge"]

# Pairs that are scored in one call, after which their scores are kept.
_BLOCK = 64


@dataclass
class ModelJudge:
    """Scores pairs with a loaded model.

    Attributes:
        name: the name given to `load`.
        cut: the raw score from which a document counts as relevant: that of a probability of 0.5. None where the scores
            are no probability, so that only labels can tell it.

    Raises:
        InputError: the model orders lists, so that a pair has no score.
    """

    reranker: Reranker
    name: str
    is_graded: bool = field(default=False, init=False)
    identity: str = field(init=False)
    cut: float | None = field(init=False)

    def __post_init__(self) -> None:
        space = self.reranker.spec.raw_space
        scorer = self.reranker.scorer
        if space == "rank" or (hasattr(scorer, "rank") and not isinstance(scorer, Scorer)):
            raise InputError(
                f"{self.name!r} orders lists and gives no document a score, so it cannot judge; use a model with "
                "scores, or a chat model behind --judge-url"
            )
        self.identity = self.reranker.fingerprint
        self.cut = {"logit": 0.0, "probability": 0.5}.get(space)

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
        return self.reranker.score([(pair.query, pair.text) for pair in pairs])

    def _alone(self, pair: Pair) -> Verdict:
        try:
            return Verdict(self._scores([pair])[0])
        except RerankError as error:
            return Verdict(None, error=str(error)[:300])

    def close(self) -> None:
        """Close the model."""
        self.reranker.close()
