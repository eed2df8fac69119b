"""Prompts that ask a chat model for the order of passages."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rerank_llm.chat import Message

__all__ = ["PROMPTS", "first_token", "letter", "shortened", "shown"]

# Invisible characters, which many tokenizers drop: control and format characters and the others that Unicode calls
# Default_Ignorable_Code_Point.
_INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
# An identifier in any bracket that a model may take for one of the prompt's. No two repetitions can match the same
# character, so matching takes linear time.
_IDENTIFIER = re.compile(
    rf"[\[［﹇【〔]([\s{_INVISIBLE}]*(?:\d(?:[{_INVISIBLE}]*\d)*|[A-ZＡ-Ｚ])[\s{_INVISIBLE}]*)[\]］﹈】〕]"
)
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def shown(text: str, max_words: int | None = None) -> str:
    """A text as the prompt shows it: on one line, at most ``max_words`` words (characters, for Chinese and
    Japanese), and with ``(3)`` in place of ``[3]``, which would look like an identifier.

    >>> shown("see [3],\\nor [ 12 ]", 3)
    'see (3), or'
    """
    words = text.split()
    line = " ".join(words)
    if max_words is not None:
        unspaced = len(_UNSPACED.findall(line)) * 2 > len(line)
        line = line[:max_words] if unspaced else " ".join(words[:max_words])
    return _IDENTIFIER.sub(r"(\1)", line)


def shortened(passages: Sequence[str], texts: Sequence[str]) -> int:
    """The number of passages that are cut in the prompt."""
    return sum(shown(passage) != text for passage, text in zip(passages, texts, strict=True))


def letter(position: int) -> str:
    """The identifier of a passage in mode ``first-token``: A, B, C ..."""
    return chr(ord("A") + position)


_GPT_SYSTEM = "You are RankGPT, an intelligent assistant that can rank passages based on their relevancy to the query."
_GPT_START = (
    "I will provide you with {count} passages, each indicated by number identifier []. \n"
    "Rank the passages based on their relevance to query: {query}."
)
_GPT_END = (
    "Search Query: {query}. \nRank the {count} passages above based on their relevance to the search query. "
    "The passages should be listed in descending order using identifiers. "
    "The most relevant passages should be listed first. "
    "The output format should be [] > [], e.g., [1] > [2]. "
    "Only response the ranking results, do not say any word or explain."
)
_ZEPHYR_SYSTEM = (
    "You are RankLLM, an intelligent assistant that can rank passages based on their relevancy to the query"
)
_ZEPHYR_START = (
    "I will provide you with {count} passages, each indicated by {kind} identifier []. "
    "Rank the passages based on their relevance to the search query: {query}.\n"
)
_ZEPHYR_END = (
    "\nSearch Query: {query}.\nRank the {count} passages above based on their relevance to the search query. "
    "All the passages should be included and listed using identifiers, in descending order of relevance. "
    "The output format should be [] > [], e.g., {example}, "
    "Answer concisely and directly and only respond with the ranking results, do not say any word or explain."
)


def rankgpt(query: str, passages: Sequence[str]) -> list[Message]:
    """RankGPT's conversation (Sun et al., *Is ChatGPT Good at Search?*, 2023)."""
    count = len(passages)
    messages: list[Message] = [
        ("system", _GPT_SYSTEM),
        ("user", _GPT_START.format(count=count, query=query)),
        ("assistant", "Okay, please provide the passages."),
    ]
    for number, passage in enumerate(passages, start=1):
        messages += [("user", f"[{number}] {passage}"), ("assistant", f"Received passage [{number}].")]
    return [*messages, ("user", _GPT_END.format(count=count, query=query))]


def rankzephyr(query: str, passages: Sequence[str]) -> list[Message]:
    """RankZephyr's single turn (Pradeep et al., 2023)."""
    names = [str(number) for number in range(1, len(passages) + 1)]
    return _single_turn(query, passages, names, "a numerical", "[2] > [1]")


def first_token(query: str, passages: Sequence[str]) -> list[Message]:
    """RankZephyr's turn with letters as identifiers, each one token (FIRST, Reddy et al., 2024)."""
    names = [letter(position) for position in range(len(passages))]
    return _single_turn(query, passages, names, "an alphabetical", "[B] > [A]")


def _single_turn(query: str, passages: Sequence[str], names: Sequence[str], kind: str, example: str) -> list[Message]:
    count = len(passages)
    start = _ZEPHYR_START.format(count=count, kind=kind, query=query)
    listed = "\n".join(f"[{name}] {passage}" for name, passage in zip(names, passages, strict=True))
    end = _ZEPHYR_END.format(count=count, query=query, example=example)
    return [("system", _ZEPHYR_SYSTEM), ("user", start + listed + end)]


PROMPTS: dict[str, Callable[[str, Sequence[str]], list[Message]]] = {
    "rankgpt": rankgpt,
    "rankzephyr": rankzephyr,
    "plain": rankzephyr,
}
