"""A checkpoint's chat template: renders messages in text of the template and text of the caller, kept apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rerank_core.backends.tokenizer import check_tokenizer_files
from rerank_core.backends.try_in_child import try_template
from rerank_core.errors import CheckpointError
from rerank_core.spec.untrusted_files import reading

__all__ = ["Message", "MessageTemplate", "open_tokenizer"]

Message: TypeAlias = tuple[str, str]
"""Role and content."""

# Characters of the private use area, which no template writes or strips.
_MARK = "\ue0f5{}\ue0f6"
_MARKS = re.compile("\ue0f5(\\d+)\ue0f6")

# Model types whose templates do not show their format, and what shows that a template reads parts of a message
# (sentence-transformers 6.2, base/modality.py).
_FLAT_TYPES = ("apertus", "deepseek_v3", "gpt_oss", "seed_oss")
_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "message.content[")

_LONGEST = 1_000_000


class MessageTemplate:
    """Renders messages with a checkpoint's chat template, which is untrusted: it is tried in a child process first.

    Args:
        directory: the tokenizer's folder.
        tokenizer: the directory's, from `open_tokenizer`.
        message_format: the content of a message: ``flat``, the text; ``structured``, a list with one text part;
            ``auto``, by sentence-transformers' rule.
        model_type: that of config.json, for the rule.
    """

    def __init__(
        self,
        directory: Path,
        tokenizer: Any,
        *,
        message_format: Literal["auto", "flat", "structured"] = "flat",
        model_type: str = "",
    ) -> None:
        self.directory = directory
        self._tokenizer = tokenizer
        self._format = message_format
        if message_format == "auto":
            source = tokenizer.chat_template
            is_text = isinstance(source, str) and source
            flat = model_type in _FLAT_TYPES or (is_text and not any(sign in source for sign in _STRUCTURED))
            self._format = "flat" if flat else "structured"

    def pieces(self, messages: Sequence[Message], variables: Mapping[str, Any]) -> list[str | int]:
        """The rendered messages as texts of the template and numbers of messages, alternating: the first and the last
        are texts, which may be empty.

        Raises:
            CheckpointError: a template that fails.
        """
        marked = [(role, _MARK.format(number)) for number, (role, _) in enumerate(messages)]
        (text,) = self.texts([marked], variables)
        parts = _MARKS.split(text)
        return [int(part) if at % 2 else part for at, part in enumerate(parts)]

    def texts(self, conversations: Sequence[Sequence[Message]], variables: Mapping[str, Any]) -> list[str]:
        """Each conversation as the template renders it.

        Raises:
            CheckpointError: a template that fails, does not end, or writes more than a template would.
        """
        # A template raises for a role that it does not support, and a malicious template may never end.
        with reading(f"{self.directory}: the chat template", "fails"):
            made = [
                [{"role": role, "content": self._content(content)} for role, content in messages]
                for messages in conversations
            ]
            known = {**self._tokenizer.special_tokens_map, **variables}
            source = self._tokenizer.get_chat_template()
            try_template(source, [{**known, "messages": messages} for messages in made], self.directory)
            texts = [
                str(self._tokenizer.apply_chat_template(messages, tokenize=False, **variables)) for messages in made
            ]
        if (longest := max(map(len, texts))) > _LONGEST:
            raise CheckpointError(f"{self.directory}: the chat template writes {longest} characters for short texts")
        return texts

    def _content(self, text: str) -> str | list[dict[str, str]]:
        return text if self._format == "flat" else [{"type": "text", "text": text}]


def open_tokenizer(directory: Path) -> Any:
    """The tokenizer of a checkpoint, as transformers opens it.

    Raises:
        CheckpointError: no tokenizer, or a damaged one.
    """
    # Imported here because models behind an endpoint share the modules that import this one.
    from transformers import AutoTokenizer

    check_tokenizer_files(directory)
    with reading(f"{directory}: the tokenizer", "cannot be read"):
        return AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
