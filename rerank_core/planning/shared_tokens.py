"""`SharedTokens`: scorers that tokenize alike share the tokens of a call's texts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Literal, TypeAlias

from rerank_core.scorer import ComparableTokens, Scorer, Tokens

__all__ = ["SharedTokens", "Tokenize"]

Side: TypeAlias = Literal["query", "doc"]
_SIDES: tuple[Side, ...] = ("query", "doc")

Tokenize: TypeAlias = Callable[[Sequence[str], Side], list[Tokens]]
"""`Scorer.tokenize`, or a function that gives the same tokens."""


_Key: TypeAlias = tuple[Side, object, Hashable]


class SharedTokens:
    """The tokens of the texts of one call, kept for those scorers of which another one tokenizes alike.

    Args:
        scorers: all scorers of the call.
    """

    def __init__(self, scorers: Sequence[object]) -> None:
        keys = [_key(scorer, side) for scorer in scorers for side in _SIDES] if len(scorers) > 1 else []
        self._tokens: dict[_Key | None, dict[str, Tokens]] = {
            key: {} for key in keys if key is not None and keys.count(key) > 1
        }

    def tokenize(self, scorer: Scorer) -> Tokenize:
        """The scorer's ``tokenize``, which reads each text once for all scorers that tokenize alike."""

        def shared(texts: Sequence[str], side: Side) -> list[Tokens]:
            known = self._tokens.get(_key(scorer, side)) if self._tokens else None
            if known is None:
                return scorer.tokenize(texts, side)
            new = [text for text in dict.fromkeys(texts) if text not in known]
            if new:
                known.update(zip(new, scorer.tokenize(new, side), strict=True))
            return [known[text] for text in texts]

        return shared


def _key(scorer: object, side: Side) -> _Key | None:
    """Equal for scorers with equal tokens. It has the method itself: a subclass with another one shares nothing."""
    if not isinstance(scorer, ComparableTokens):
        return None
    return side, getattr(type(scorer), "tokenize", None), scorer.token_key(side)
