"""A checkpoint's chat template, as text of its own around messages that stay the caller's text."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core import CheckpointError
from rerank_core.spec import reading
from rerank_llm.thoughts import closing

__all__ = ["ChatTemplate", "Message"]

Message: TypeAlias = tuple[str, str]
"""Role and content."""

_LOG = logging.getLogger("rerank_llm")

# Models that think aloud first are asked not to; templates ignore what they do not know. The names are those of Qwen3,
# GLM and Hunyuan, of DeepSeek and Granite, and of Seed-OSS.
_QUIET = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}

# Of the private use area: no template writes it, and none trims it.
_MARK = "\ue0f5{}\ue0f6"
_MARKS = re.compile("\ue0f5(\\d+)\ue0f6")


class ChatTemplate:
    """How a model's authors write a conversation. A thought that the template opens is closed, so that what the model
    writes next is its answer; the log says so once.

    Raises:
        CheckpointError: no tokenizer, or one without a chat template.
    """

    def __init__(self, directory: Path) -> None:
        # Imported here because the models behind an endpoint share this module and need neither.
        from transformers import AutoTokenizer

        from rerank_core.backends.torch import check_tokenizer_files

        self._directory = directory
        check_tokenizer_files(directory)
        with reading(f"{directory}: the tokenizer", "cannot be read"):
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(directory), local_files_only=True, trust_remote_code=False
            )
        if not tokenizer.chat_template:
            raise CheckpointError(
                f"{directory} has no chat template, so it is probably a base model; use its -Instruct or -Chat sibling"
            )
        self._tokenizer = tokenizer
        self._told = False

    def parts(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """The conversation, ready for the answer, in pieces: text, and whether the template wrote it. Only such text
        may make special tokens.

        Raises:
            CheckpointError: a template that fails, or loses or repeats a message.
        """
        marked = [{"role": role, "content": _MARK.format(number)} for number, (role, _) in enumerate(messages)]
        pieces = _MARKS.split(self._written(marked))
        if pieces[1::2] != [str(number) for number in range(len(messages))]:
            raise CheckpointError(f"{self._directory}: the chat template does not write each message once, in order")
        found = [
            (piece, True) if place % 2 == 0 else (messages[int(piece)][1], False) for place, piece in enumerate(pieces)
        ]
        end = closing(pieces[-1])
        if end is not None:
            found[-1] = (pieces[-1] + end, True)
            self._tell(pieces[-1])
        return [(piece, own) for piece, own in found if piece]

    def _written(self, messages: list[dict[str, str]]) -> str:
        """The conversation as the template writes it, ready for the answer.

        Raises:
            CheckpointError: the template fails.
        """
        try:
            return self._rendered(messages, _QUIET)
        except CheckpointError:  # some templates raise where a model cannot be asked not to think
            return self._rendered(messages, {})

    def _rendered(self, messages: list[dict[str, str]], quiet: dict[str, Any]) -> str:
        from rerank_core.backends.torch import try_template

        # A template raises on purpose too, for a role that it does not take, and one of a stranger may never end.
        with reading(f"{self._directory}: the chat template", "fails"):
            asked = {**quiet, "add_generation_prompt": True}
            values = {**self._tokenizer.special_tokens_map, **asked, "messages": messages}
            try_template(self._tokenizer.get_chat_template(), values, self._directory)
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, **asked))

    def _tell(self, end: str) -> None:
        if not self._told:
            self._told = True
            _LOG.warning(
                "%s: the chat template ends inside a thought (%r); it is closed there, and the model answers without "
                "thinking",
                self._directory,
                end[-40:],
            )
