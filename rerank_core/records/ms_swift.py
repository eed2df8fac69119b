"""Converts rows of ms-swift: the query is the last user message of a conversation, each document a conversation."""

from __future__ import annotations

from rerank_core.errors import short
from rerank_core.records.fields import Record, RowError, text
from rerank_core.records.training_row import TrainingRow

__all__ = ["messages_row"]


def messages_row(record: Record) -> TrainingRow:
    """Convert ``{"messages", "positive_messages", "negative_messages"}`` to a row; a system message is the instruction.

    Raises:
        RowError: a list or message has another shape, or no message is from the user.
    """
    conversation = _messages(record["messages"], "messages")
    users = [content for role, content in conversation if role == "user"]
    if not users:
        raise RowError("messages has no user message; the last one is the query", "no-query")
    system = [content for role, content in conversation if role == "system"]
    pos = _answers(record["positive_messages"], "positive_messages")
    neg = () if record.get("negative_messages") is None else _answers(record["negative_messages"], "negative_messages")
    labels = (1.0,) * len(pos) + (0.0,) * len(neg)
    return TrainingRow(users[-1], pos + neg, labels, instruction=(system[-1] if system else None) or None)


def _answers(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name} is {short(value)}; it must be a list of conversations", "not-a-list")
    return tuple(_answer(item, f"{name}[{position}]") for position, item in enumerate(value))


def _answer(value: object, name: str) -> str:
    conversation = _messages(value, name)
    # In rows for rerankers the document is an assistant message, in rows for embedding models a user message.
    candidates = [content for role, content in conversation if role == "assistant"]
    candidates = candidates or [content for _, content in conversation]
    if len(candidates) != 1:
        raise RowError(
            f"{name} has {len(candidates)} messages that could be the document; it must have one", "not-one-text"
        )
    return candidates[0]


def _messages(value: object, name: str) -> list[tuple[str, str]]:
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name} is {short(value)}; it must be a list of messages", "not-a-list")
    messages = []
    for position, message in enumerate(value):
        if not isinstance(message, dict):
            raise RowError(
                f"{name}[{position}] is {short(message)}; it must be an object with role and content", "not-an-object"
            )
        role = text(message.get("role"), f"{name}[{position}].role")
        messages.append((role, text(message.get("content"), f"{name}[{position}].content")))
    return messages
