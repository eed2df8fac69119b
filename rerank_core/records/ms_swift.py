"""ms-swift's rows: a conversation whose last user message is the query, and candidate answers as conversations."""

from __future__ import annotations

from rerank_core.errors import short
from rerank_core.records.fields import Record, RowError, text
from rerank_core.records.training_row import TrainingRow

__all__ = ["messages_row"]


def messages_row(record: Record) -> TrainingRow:
    """The row of ``{"messages", "positive_messages", "negative_messages"}``; a system message is its instruction.

    Raises:
        RowError: a list or message of another shape, or no user message.
    """
    asked = _messages(record["messages"], "messages")
    users = [content for role, content in asked if role == "user"]
    if not users:
        raise RowError("messages has no message of the user, which would be the query", "no-query")
    system = [content for role, content in asked if role == "system"]
    pos = _answers(record["positive_messages"], "positive_messages")
    neg = () if record.get("negative_messages") is None else _answers(record["negative_messages"], "negative_messages")
    labels = (1.0,) * len(pos) + (0.0,) * len(neg)
    return TrainingRow(users[-1], pos + neg, labels, instruction=(system[-1] if system else None) or None)


def _answers(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name} is {short(value)}; it must be a list of conversations", "not-a-list")
    return tuple(_answer(item, f"{name}[{place}]") for place, item in enumerate(value))


def _answer(value: object, name: str) -> str:
    said = _messages(value, name)
    # Rerankers' rows have the document as the assistant's words, embedders' rows as a user's.
    chosen = [content for role, content in said if role == "assistant"] or [content for _, content in said]
    if len(chosen) != 1:
        raise RowError(
            f"{name} has {len(chosen)} messages that could be the document; it must have one", "not-one-text"
        )
    return chosen[0]


def _messages(value: object, name: str) -> list[tuple[str, str]]:
    if not isinstance(value, (list, tuple)):
        raise RowError(f"{name} is {short(value)}; it must be a list of messages", "not-a-list")
    found = []
    for place, message in enumerate(value):
        if not isinstance(message, dict):
            raise RowError(
                f"{name}[{place}] is {short(message)}; it must be an object with role and content", "not-an-object"
            )
        role = text(message.get("role"), f"{name}[{place}].role")
        found.append((role, text(message.get("content"), f"{name}[{place}].content")))
    return found
