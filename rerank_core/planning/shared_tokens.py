"""`SharedTokens`: scorers that tokenize alike share the tokens of a call's texts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Literal, TypeAlias

from rerank_core.scorer import ComparableTokens, Scorer, Tokens

__all__ = ["SharedTokens", "Tokenize"]

Side: TypeAlias = Literal["query", "doc"]
_SIDES: tuple[Side, ...] = ("query", "doc")

Tokenize: TypeAlias = Callable[[Sequence[str], Side], list[Tokens]]
"""`Scorer.tokenize`, or a function that gives the same tokens."""


class SharedTokens:
    """The tokens of the texts of one call, kept for those scorers of which another one tokenizes alike.

    Args:
        scorers: all scorers of the call.
    """

    def __init__(self, scorers: Iterable[object]) -> None:
        comparable = [scorer for scorer in scorers if isinstance(scorer, ComparableTokens)]
        keys = [(side, scorer.token_key(side)) for scorer in comparable for side in _SIDES]
        self._tokens: dict[tuple[Side, Hashable], dict[str, Tokens]] = {key: {} for key in keys if keys.count(key) > 1}

    def tokenize(self, scorer: Scorer) -> Tokenize:
        """The scorer's ``tokenize``, which reads each text once for all scorers that tokenize alike."""

        def shared(texts: Sequence[str], side: Side) -> list[Tokens]:
            known = self._tokens.get((side, scorer.token_key(side))) if isinstance(scorer, ComparableTokens) else None
            if known is None:
                return scorer.tokenize(texts, side)
            new = [text for text in dict.fromkeys(texts) if text not in known]
            if new:
                known.update(zip(new, scorer.tokenize(new, side), strict=True))
            return [known[text] for text in texts]

        return shared
