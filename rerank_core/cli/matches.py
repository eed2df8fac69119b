"""Which tokens matched, for people: the passage with its matched words marked, and the strongest pairs below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rerank_core.cli.output import plain
from rerank_core.types import Hit, Match

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["marked", "pairs"]

_SHOWN = 8
"""Pairs of tokens in the line below a passage."""


def marked(hit: Hit, start: int, stop: int) -> Text:
    """``text[start:stop]`` of the hit's document; in bold what matched the query's own words, underlined the best."""
    from rich.text import Text

    text = hit.document.text
    body = Text()
    place = start
    strong = max((match.weight for match in hit.matches if match.query), default=0.0)
    spans: dict[tuple[int, int], float] = {}
    for match in hit.matches:
        if match.query and match.document and start <= match.document[0] and match.document[1] <= stop:
            spans[match.document] = max(match.weight, spans.get(match.document, match.weight))
    for (first, last), weight in sorted(spans.items()):
        if first < place:
            continue
        body.append(plain(text[place:first]), "green")
        body.append(plain(text[first:last]), "bold green underline" if weight >= strong / 2 > 0 else "bold green")
        place = last
    body.append(plain(text[place:stop]), "green")
    return body


def pairs(hit: Hit, query: str) -> str:
    """The query's words, each with what it matched and the weight, strongest first."""
    found = sorted((match for match in hit.matches if match.query), key=lambda match: -match.weight)
    shown = [f"{_word(query, match.query, match.query_token)} → {_theirs(hit, match)}" for match in found[:_SHOWN]]
    more = len(found) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _theirs(hit: Hit, match: Match) -> str:
    return f"{_word(hit.document.text, match.document, match.document_token)} {match.weight:.3f}"


def _word(text: str, span: tuple[int, int] | None, token: str) -> str:
    return plain(token if span is None else text[span[0] : span[1]]).strip() or token
