"""From mteb's rows to requests of `Reranker.rerank_stream`, and from its rankings to scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rerank_core import Document, Index, InputError, Reranker
from rerank_eval.runs.measuring import scores_of

__all__ = ["Query", "Wording", "document_text", "pair_scores", "request_scores"]


@dataclass(frozen=True, slots=True)
class Query:
    """What a model gets as the query.

    Attributes:
        instruction: for models that follow one; None for the model's own default.
    """

    text: str
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class Wording:
    """How a task's instructions reach a model.

    A query's own instruction becomes the model's option ``instruction`` where it has one, and otherwise stands after
    the query, as mteb puts it.

    Attributes:
        takes_instruction: the model has the option.
        task_prompts: the prompt of the task is the instruction of queries without one of their own.
    """

    takes_instruction: bool
    task_prompts: bool

    def query(self, row: Mapping[str, Any], prompt: object) -> Query:
        """The query of a row: ``query`` or ``text``, and ``instruction``.

        Args:
            prompt: of the task's metadata: a text, or texts by kind of input.

        Raises:
            InputError: the query is a conversation.
        """
        text, own = row.get("query", row["text"]), row.get("instruction") or None
        if not isinstance(text, str):
            raise InputError(f"the query is {text!r:.80}; rerankers read one text, and no conversations")
        if own is None:
            return Query(text, self.task_prompt(prompt))
        return Query(text, own) if self.takes_instruction else Query(f"{text} {own}")

    def task_prompt(self, prompt: object) -> str | None:
        """The prompt of the task for queries; None where it is not asked for, or the task has none."""
        if not self.task_prompts:
            return None
        found = prompt.get("query") if isinstance(prompt, Mapping) else prompt
        return found if isinstance(found, str) and found else None


def document_text(row: Mapping[str, Any]) -> str:
    """The text of a row of a corpus, after its title, as mteb joins them.

    >>> document_text({"title": "Pandas", "text": " They eat bamboo. "}), document_text({"text": "They eat."})
    ('Pandas  They eat bamboo.', 'They eat.')
    """
    title = row.get("title") or ""
    return (f"{title} {row['text']}" if title else str(row["text"])).strip()


def pair_scores(reranker: Reranker, pairs: Iterable[tuple[Query, str]]) -> list[float]:
    """``[pairs]``: the score of each pair, in their order.

    Neighbouring pairs of one query are one request, so that the query is computed once for all its documents.
    """
    grouped = ((query, [document for _, document in own]) for query, own in groupby(pairs, key=lambda pair: pair[0]))
    return [score for scores in request_scores(reranker, grouped) for score in scores]


def request_scores(
    reranker: Reranker, requests: Iterable[tuple[Query, Sequence[str] | Sequence[Document] | Index]]
) -> Iterator[list[float]]:
    """``[documents]`` of each request: raw scores, and minus the rank where scores cannot be compared."""
    for instruction, own in groupby(requests, key=lambda request: request[0].instruction):
        options = {} if instruction is None else {"instruction": instruction}
        stream = ((query.text, documents) for query, documents in own)
        yield from map(scores_of, reranker.rerank_stream(stream, activation="none", **options))
