"""A checkpoint's chat template, as the text before and after a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rerank_core.errors import CheckpointError

__all__ = ["render"]

# Of the private use area: no template writes it, and none trims it.
_HERE = "\ue0f5message\ue0f6"


def render(messages: Sequence[Mapping[str, str | None]], directory: Path) -> tuple[str, str]:
    """The conversation's text before and after the one message whose content is None, ready for the answer.

    Raises:
        CheckpointError: no chat template, or one that fails or loses the message.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{directory}: the tokenizer cannot be read: {error}") from error
    if not tokenizer.chat_template:
        raise CheckpointError(
            f"{directory} has no chat template, so it is probably a base model; use its -Instruct or -Chat sibling"
        )
    given = [
        {**message, "content": _HERE if message["content"] is None else message["content"]} for message in messages
    ]
    try:
        # Models that think aloud first are asked not to; templates ignore what they do not know.
        text = tokenizer.apply_chat_template(given, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # whatever a template raises on purpose (a role it does not take) or by mistake
        raise CheckpointError(f"{directory}: the chat template fails: {error}") from error
    before, found, after = text.partition(_HERE)
    if not found or _HERE in after:
        raise CheckpointError(f"{directory}: the chat template does not write a message's text once and unchanged")
    return before, after
