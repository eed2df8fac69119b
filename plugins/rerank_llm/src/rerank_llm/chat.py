"""A checkpoint's chat template: a conversation as text of the template and text of the caller, kept apart."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core import CheckpointError
from rerank_core.spec import reading
from rerank_llm.thoughts import end_of_reasoning

__all__ = ["ChatTemplate", "Message", "PlainText", "beginning"]

Message: TypeAlias = tuple[str, str]
"""Role and content."""

_LOG = logging.getLogger("rerank_llm")

# Template variables that switch reasoning off; templates ignore those they do not know. ``enable_thinking`` is of
# Qwen3, GLM and Hunyuan, ``thinking`` of DeepSeek and Granite, ``thinking_budget`` of Seed-OSS.
_NO_REASONING = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}


class ChatTemplate:
    """Renders conversations with a checkpoint's chat template. Where the template ends inside a reasoning section, the
    section is closed, so that the model's next tokens are its answer; the log says so once.

    Args:
        tokenizer: the directory's, as `rerank_core.backends.torch.open_tokenizer` opens it.
        instead: advice for a model without a chat template: the option that makes it usable.

    Raises:
        CheckpointError: no chat template.
    """

    def __init__(self, directory: Path, tokenizer: Any, *, instead: str) -> None:
        # Imported here because the models behind an endpoint share this module and need no torch.
        from rerank_core.backends.torch import MessageTemplate

        self._directory = directory
        self._template = MessageTemplate(directory, tokenizer)
        if not tokenizer.chat_template:
            raise CheckpointError(
                f"{directory} has no chat template, so it is probably a base model; use its -Instruct or -Chat "
                f"sibling, or {instead}"
            )
        self._warned = False

    def parts(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """The conversation up to the model's answer, in pieces ``(text, whether the template wrote it)``. Only text of
        the template may become special tokens.

        Raises:
            CheckpointError: a template that fails, or that omits, repeats or reorders a message.
        """
        pieces = self._rendered(messages)
        if pieces[1::2] != list(range(len(messages))):
            raise CheckpointError(f"{self._directory}: the chat template does not write each message once, in order")
        last = str(pieces[-1])
        parts = [(messages[piece][1], False) if isinstance(piece, int) else (piece, True) for piece in pieces]
        end = end_of_reasoning(last)
        if end is not None:
            parts[-1] = (last + end, True)
            self._warn(last)
        return [(text, is_template) for text, is_template in parts if text]

    def _rendered(self, messages: Sequence[Message]) -> list[str | int]:
        """The conversation as the template writes it, up to the model's answer: text and numbers of messages.

        Raises:
            CheckpointError: the template fails.
        """
        try:
            return self._template.pieces(messages, {**_NO_REASONING, "add_generation_prompt": True})
        except CheckpointError:  # some templates raise where reasoning cannot be switched off
            return self._template.pieces(messages, {"add_generation_prompt": True})

    def _warn(self, end: str) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "%s: the chat template ends inside a thought (%r); it is closed there, and the model answers without "
                "thinking",
                self._directory,
                end[-40:],
            )


class PlainText:
    """Writes a conversation as one text, for base models, which have no chat template: the messages with a blank line
    after each.

    Args:
        tokenizer: the directory's, as `rerank_core.backends.torch.open_tokenizer` opens it.
    """

    def __init__(self, directory: Path, tokenizer: Any) -> None:
        self._beginning = beginning(directory, tokenizer)

    def parts(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """The text in pieces ``(text, whether it is not the caller's)``, as `ChatTemplate.parts`."""
        pieces = [piece for _, content in messages for piece in ((content, False), ("\n\n", True))]
        return [(text, is_template) for text, is_template in [(self._beginning, True), *pieces] if text]


def beginning(directory: Path, tokenizer: Any) -> str:
    """The text of the special tokens that a tokenizer puts before a text, such as ``<bos>``.

    Raises:
        CheckpointError: the tokenizer fails.
    """
    with reading(f"{directory}: the tokenizer", "cannot be read"):
        ids, alone = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
        before = ids[: next(start for start in range(len(ids)) if ids[start : start + len(alone)] == alone)]
        return "".join(tokenizer.convert_ids_to_tokens(before))
