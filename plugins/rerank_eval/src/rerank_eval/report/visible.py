"""Texts from files on a page: hidden characters are spelt out, and long texts are cut around a passage."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Excerpt", "excerpt", "language", "visible"]

# C0 and C1 controls except tab and newline, overrides and isolates of writing direction, halves of surrogate pairs,
# and U+FFFE, U+FFFF. HTML, XML or UTF-8 has no place for most of them, and the others reorder what is read.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]")
_KANA_OR_HANGUL = re.compile("[\u3041-\u30ff\uac00-\ud7af]")

_BESIDE = 120
"""Characters that are shown on each side of a passage."""


def visible(text: str) -> str:
    """The text with each such character as its code point.

    >>> visible("a\\x00b")
    'a⟨U+0000⟩b'
    """
    return _HIDDEN.sub(lambda found: f"⟨U+{ord(found.group()):04X}⟩", text.replace("\r\n", "\n"))


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What is shown of a text, `visible`: ``before`` and ``after`` surround the marked passage.

    Attributes:
        cut_before, cut_after: whether the text goes on there.
        shown, characters: characters of the text that are shown, and that it has.
    """

    before: str
    marked: str
    after: str
    cut_before: bool
    cut_after: bool
    shown: int
    characters: int


def excerpt(text: str, passage: tuple[int, int] | None = None, limit: int = 600) -> Excerpt:
    """At most ``limit`` characters of a text: its beginning, or the passage ``(start, stop)`` with text around it."""
    if passage is None:
        start, stop = 0, 0
    else:
        start = min(max(passage[0], 0), len(text))
        stop = min(max(passage[1], start), len(text))
    room = limit - min(stop - start, limit - min(2 * _BESIDE, limit))
    first = max(0, start - (room // 2 if stop > start else 0))
    last = min(len(text), first + limit)
    first = max(0, last - limit) if stop > start else first
    stop = min(stop, last)
    return Excerpt(
        before=visible(text[first:start]),
        marked=visible(text[start:stop]),
        after=visible(text[stop:last]),
        cut_before=first > 0,
        cut_after=last < len(text),
        shown=last - first,
        characters=len(text),
    )


def language(text: str) -> str | None:
    """``zh`` for a text with Chinese characters and no kana or Hangul, else None.

    >>> language("熊猫 panda"), language("パンダの漢字")
    ('zh', None)
    """
    return "zh" if _HAN.search(text) and not _KANA_OR_HANGUL.search(text) else None
