"""What the text of a licence says about commercial use."""

from __future__ import annotations

import re

__all__ = ["is_non_commercial"]

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research[ -]only", re.IGNORECASE)


def is_non_commercial(text: str) -> bool:
    """Whether a licence's name says that it allows no commercial use.

    >>> [is_non_commercial(text) for text in ("CC-BY-NC-SA-4.0", "Apache-2.0", "Gemma", "research only")]
    [True, False, False, True]
    """
    return _NON_COMMERCIAL.search(text) is not None
