"""A checkpoint's chat template, as text of its own around messages that stay the caller's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core.errors import CheckpointError

__all__ = ["ChatTemplate", "Message"]

Message: TypeAlias = tuple[str, str]
"""Role and content."""

# Of the private use area: no template writes it, and none trims it.
_MARK = "\ue0f5{}\ue0f6"
_MARKS = re.compile("\ue0f5(\\d+)\ue0f6")


class ChatTemplate:
    """How a model's authors write a conversation.

    Raises:
        CheckpointError: no tokenizer, or one without a chat template.
    """

    def __init__(self, directory: Path) -> None:
        from transformers import AutoTokenizer

        self._directory = directory
        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{directory}: the tokenizer cannot be read: {error}") from error
        if not tokenizer.chat_template:
            raise CheckpointError(
                f"{directory} has no chat template, so it is probably a base model; use its -Instruct or -Chat sibling"
            )
        self._tokenizer = tokenizer

    def parts(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """The conversation, ready for the answer, in pieces: text, and whether the template wrote it. Only such text
        may make special tokens.

        Raises:
            CheckpointError: a template that fails, or loses or repeats a message.
        """
        marked = [{"role": role, "content": _MARK.format(number)} for number, (role, _) in enumerate(messages)]
        try:
            # Models that think aloud first are asked not to; templates ignore what they do not know.
            text = self._tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except Exception as error:  # whatever a template raises on purpose (a role it does not take) or by mistake
            raise CheckpointError(f"{self._directory}: the chat template fails: {error}") from error
        pieces = _MARKS.split(text)
        if pieces[1::2] != [str(number) for number in range(len(messages))]:
            raise CheckpointError(f"{self._directory}: the chat template does not write each message once, in order")
        found = [
            (piece, True) if place % 2 == 0 else (messages[int(piece)][1], False) for place, piece in enumerate(pieces)
        ]
        return [(piece, own) for piece, own in found if piece]
