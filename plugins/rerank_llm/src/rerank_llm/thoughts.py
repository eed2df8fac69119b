"""Reasoning sections of chat models: removed from answers, and closed at the end of a prompt that opens one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Reply", "end_of_reasoning", "without_reasoning"]

# DeepSeek-R1, Qwen3, QwQ, GLM, MiniMax and others write <think>, EXAONE <thought>, Seed-OSS <seed:think>, LongCat
# <longcat_think>, Magistral [THINK], Kimi ◁think▷; the others are words that prompts for reasoning ask for.
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

# gpt-oss writes to channels; the answer is in the channel ``final``. A server that drops special tokens leaves the
# names of the channels in the text.
_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_END_OF_MESSAGE = re.compile(r"<\|(?:end|return|call|start)\|>")
_NAMES = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z]).*?assistant\s*final", re.DOTALL)
_NAME = re.compile(r"\s*(?:analysis|commentary)(?=[A-Z])")

_ANSWER, _END_OF_ANSWER = "<answer>", "</answer>"


@dataclass(frozen=True)
class Reply:
    """A model's output without its reasoning.

    Attributes:
        answer: the text outside reasoning sections; empty where an unfinished section is all there is.
        thought: whether a reasoning section was removed.
    """

    answer: str
    thought: bool


def without_reasoning(text: str) -> Reply:
    """A model's output without its reasoning sections: complete ones, one that was cut off, and one that the prompt
    opened.

    >>> without_reasoning("<think>1 or 2? 2 is better</think>[2] > [1]")
    Reply(answer='[2] > [1]', thought=True)
    >>> without_reasoning("1 or 2? 2 is better</think>[2] > [1]").answer
    '[2] > [1]'
    >>> without_reasoning("<think>perhaps 1, or").answer
    ''
    """
    if _CHANNEL in text:
        return Reply(_final(text), thought=True)
    if match := _NAMES.match(text):
        return Reply(text[match.end() :], thought=True)
    if _NAME.match(text):
        return Reply("", thought=True)
    kept: list[str] = []
    position = 0
    for opening, start, stop in _sections(text):
        kept.append(text[position:start])
        position = len(text) if stop is None else stop
        if opening is None:
            # The prompt opened the section that ends here.
            kept.clear()
    answer = "".join([*kept, text[position:]])
    _, marker, rest = answer.rpartition(_ANSWER)
    return Reply(rest.partition(_END_OF_ANSWER)[0] if marker else answer, thought=position > 0)


def end_of_reasoning(prompt: str) -> str | None:
    """The text that closes the reasoning section at the end of a prompt, so that the answer follows; None where the
    prompt does not end inside one.

    Args:
        prompt: the text that a chat template writes after the last message.

    >>> end_of_reasoning("<|im_start|>assistant\\n<think>\\n")
    '\\n</think>\\n\\n'
    >>> end_of_reasoning("<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n") is None
    True
    """
    # The end of gpt-oss's template, after which the model would name a channel.
    if prompt.rstrip().endswith("<|start|>assistant"):
        return f"{_CHANNEL}final{_MESSAGE}"
    _, channel, rest = prompt.rpartition(_CHANNEL)
    if channel and not rest.startswith("final") and not _END_OF_MESSAGE.search(rest):
        return f"<|end|><|start|>assistant{_CHANNEL}final{_MESSAGE}"
    for opening, _, stop in _sections(prompt):
        if opening is not None and stop is None:
            # The format in which Qwen3's own template writes an empty section.
            lines = "\n" if prompt.endswith("\n") else "\n\n"
            end = _CLOSED_BY[opening.lower()]
            return f"{lines}{end.upper() if opening.isupper() else end}\n\n"
    return None


def _final(text: str) -> str:
    """The last message of the channel ``final``; empty where there is none."""
    answer = ""
    for section in text.split(_CHANNEL)[1:]:
        header, _, message = section.partition(_MESSAGE)
        if header.strip().startswith("final"):
            answer = _END_OF_MESSAGE.split(message)[0]
    return answer


def _sections(text: str) -> Iterator[tuple[str | None, int, int | None]]:
    """Reasoning sections as ``(opening marker, start, stop)``. The marker is None where the text has only the closing
    marker, and ``stop`` is None where the section is not closed."""
    opening: str | None = None
    start = 0
    for match in _MARKER.finditer(text):
        marker = match.group()
        if opening is not None:
            if marker.lower() == _CLOSED_BY[opening.lower()]:
                yield opening, start, match.end()
                opening = None
        elif marker.lower() in _CLOSED_BY:
            opening, start = marker, match.start()
        else:
            yield None, match.start(), match.end()
    if opening is not None:
        yield opening, start, None
