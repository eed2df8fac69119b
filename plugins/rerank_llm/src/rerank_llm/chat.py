"""A checkpoint's chat template: a conversation as text of the template and text of the caller, kept apart."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from rerank_core import CheckpointError
from rerank_core.spec import reading
from rerank_llm.thoughts import end_of_reasoning

__all__ = ["ChatTemplate", "Message", "PlainText", "beginning", "open_tokenizer"]

Message: TypeAlias = tuple[str, str]
"""Role and content."""

_LOG = logging.getLogger("rerank_llm")

# Template variables that switch reasoning off; templates ignore those they do not know. ``enable_thinking`` is of
# Qwen3, GLM and Hunyuan, ``thinking`` of DeepSeek and Granite, ``thinking_budget`` of Seed-OSS.
_NO_REASONING = {"enable_thinking": False, "thinking": False, "thinking_budget": 0}

# Characters of the private use area, which no template writes or strips.
_MARK = "\ue0f5{}\ue0f6"
_MARKS = re.compile("\ue0f5(\\d+)\ue0f6")


class ChatTemplate:
    """Renders conversations with a checkpoint's chat template. Where the template ends inside a reasoning section, the
    section is closed, so that the model's next tokens are its answer; the log says so once.

    Args:
        tokenizer: the directory's, from `open_tokenizer`.
        instead: advice for a model without a chat template: the option that makes it usable.

    Raises:
        CheckpointError: no chat template.
    """

    def __init__(self, directory: Path, tokenizer: Any, *, instead: str) -> None:
        self._directory = directory
        self._tokenizer = tokenizer
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
        marked = [{"role": role, "content": _MARK.format(number)} for number, (role, _) in enumerate(messages)]
        pieces = _MARKS.split(self._rendered(marked))
        if pieces[1::2] != [str(number) for number in range(len(messages))]:
            raise CheckpointError(f"{self._directory}: the chat template does not write each message once, in order")
        # `split` alternates text of the template and numbers of messages.
        parts = [
            (piece, True) if index % 2 == 0 else (messages[int(piece)][1], False) for index, piece in enumerate(pieces)
        ]
        end = end_of_reasoning(pieces[-1])
        if end is not None:
            parts[-1] = (pieces[-1] + end, True)
            self._warn(pieces[-1])
        return [(text, is_template) for text, is_template in parts if text]

    def _rendered(self, messages: list[dict[str, str]]) -> str:
        """The conversation as the template writes it, up to the model's answer.

        Raises:
            CheckpointError: the template fails.
        """
        try:
            return self._render(messages, _NO_REASONING)
        except CheckpointError:  # some templates raise where reasoning cannot be switched off
            return self._render(messages, {})

    def _render(self, messages: list[dict[str, str]], variables: dict[str, Any]) -> str:
        from rerank_core.backends.torch import try_template

        # A template raises for a role that it does not support, and a malicious template may never end.
        with reading(f"{self._directory}: the chat template", "fails"):
            arguments = {**variables, "add_generation_prompt": True}
            values = {**self._tokenizer.special_tokens_map, **arguments, "messages": messages}
            try_template(self._tokenizer.get_chat_template(), values, self._directory)
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, **arguments))

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
        tokenizer: the directory's, from `open_tokenizer`.
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


def open_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint, as transformers opens it.

    Raises:
        CheckpointError: no tokenizer, or a damaged one.
    """
    # Imported here because the models behind an endpoint share this module and need neither.
    from transformers import AutoTokenizer

    from rerank_core.backends.torch import check_tokenizer_files

    check_tokenizer_files(directory)
    with reading(f"{directory}: the tokenizer", "cannot be read"):
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
