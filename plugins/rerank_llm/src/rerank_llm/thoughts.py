"""What a chat model thinks aloud before it answers: left out of answers, and closed where a template opens it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Said", "closing", "said"]

# DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax and others write <think>, EXAONE <thought>, Seed-OSS <seed:think>, LongCat
# <longcat_think>, Magistral [THINK], Kimi ◁think▷; the rest are words that prompts of reasoning models ask for.
_WORDS = (
    "think", "thinking", "thought", "thoughts", "reason", "reasoning", "reflection", "analysis", "scratchpad",
    "seed:think", "longcat_think", "antthinking",
)  # fmt: skip
_CLOSED_BY = {
    # OpenThinker, Command A, Apertus, Gemma 4.
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|start_thinking|>": "<|end_thinking|>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<|channel>thought": "<channel|>",
    **{f"<{word}>": f"</{word}>" for word in _WORDS},
    **{f"[{word}]": f"[/{word}]" for word in _WORDS},
    **{f"◁{word}▷": f"◁/{word}▷" for word in _WORDS},
}
_MARKER = re.compile("|".join(map(re.escape, [*_CLOSED_BY, *_CLOSED_BY.values()])), re.IGNORECASE)

# gpt-oss writes to channels, and the one called final is the answer. A server that drops special tokens leaves the
# names of the channels in the text.
_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start)\|>")
_NAMES = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z]).*?assistant\s*final", re.DOTALL)
_NAME = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z])")

_ANSWER, _END_OF_ANSWER = "<answer>", "</answer>"


@dataclass(frozen=True)
class Said:
    """A model's words without its thoughts.

    Attributes:
        answer: what is left; empty where a thought was not finished and nothing stands before it.
        thought: whether something was left out.
    """

    answer: str
    thought: bool


def said(text: str) -> Said:
    """A model's words without its thoughts: finished ones, one that was cut off, and one that the prompt began.

    >>> said("<think>1 or 2? 2 is better</think>[2] > [1]")
    Said(answer='[2] > [1]', thought=True)
    >>> said("1 or 2? 2 is better</think>[2] > [1]").answer, said("<think>perhaps 1, or").answer
    ('[2] > [1]', '')
    """
    if _CHANNEL in text:
        return Said(_final(text), thought=True)
    if named := _NAMES.match(text):
        return Said(text[named.end() :], thought=True)
    if _NAME.match(text):
        return Said("", thought=True)
    kept: list[str] = []
    place = 0
    for opening, start, stop in _spans(text):
        kept.append(text[place:start])
        place = len(text) if stop is None else stop
        if opening is None:
            # The prompt began the thought that ends here.
            kept.clear()
    answer = "".join([*kept, text[place:]])
    _, marked, rest = answer.rpartition(_ANSWER)
    return Said(rest.partition(_END_OF_ANSWER)[0] if marked else answer, thought=place > 0)


def closing(prompt: str) -> str | None:
    """What to write after a prompt whose end stands inside a thought, so that the answer follows; None elsewhere.

    Args:
        prompt: what a template writes after the last message.

    >>> closing("<|im_start|>assistant\\n<think>\\n")
    '\\n</think>\\n\\n'
    >>> closing("<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n"), closing("<|im_start|>assistant\\n")
    (None, None)
    """
    # What gpt-oss's template ends with: the model would name a channel next.
    if prompt.rstrip().endswith("<|start|>assistant"):
        return f"{_CHANNEL}final{_MESSAGE}"
    _, channel, rest = prompt.rpartition(_CHANNEL)
    if channel and not rest.startswith("final") and not _END_OF_MESSAGE.search(rest):
        return f"<|end|><|start|>assistant{_CHANNEL}final{_MESSAGE}"
    for opening, _, stop in _spans(prompt):
        if opening is not None and stop is None:
            # As Qwen3's own template writes a thought that is empty.
            lines = "\n" if prompt.endswith("\n") else "\n\n"
            closed = _CLOSED_BY[opening.lower()]
            return f"{lines}{closed.upper() if opening.isupper() else closed}\n\n"
    return None


def _final(text: str) -> str:
    """The last message of the channel called final; empty where there is none."""
    answer = ""
    for written in text.split(_CHANNEL)[1:]:
        header, _, message = written.partition(_MESSAGE)
        if header.strip().startswith("final"):
            answer = _END_OF_MESSAGE.split(message)[0]
    return answer


def _spans(text: str) -> Iterator[tuple[str | None, int, int | None]]:
    """Thoughts: the marker that opens each, where that begins, and where the thought ends; no marker for a thought of
    which the text has only the end, no end for one that goes on."""
    opening: str | None = None
    start = 0
    for found in _MARKER.finditer(text):
        marker = found.group()
        if opening is not None:
            if marker.lower() == _CLOSED_BY[opening.lower()]:
                yield opening, start, found.end()
                opening = None
        elif marker.lower() in _CLOSED_BY:
            opening, start = marker, found.start()
        else:
            yield None, found.start(), found.end()
    if opening is not None:
        yield opening, start, None
