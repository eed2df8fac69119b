"""LLM rerankers: a causal model whose score is the logit of an answer token (monoT5, Nogueira et al., 2020)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rerank_core import Head, InputError, ModelSpec
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import Loaded, ModelKind
from rerank_trainers.model.load_weights import language_model
from rerank_trainers.model.source import Source, tokenizer_of

__all__ = ["LLM", "check_answers", "template_and_answers"]


class LLM(ModelKind):
    """A causal language model that answers with a word."""

    name = "llm"
    heads = ("last_token",)
    lora_task = "CAUSAL_LM"
    tag = "llm-reranker"
    sentence = "A causal language model whose score is the logit of a word"

    def head(self, config: ModelConfig, like: ModelSpec | None) -> Head:
        """The answer words of the configuration, else of the followed model."""
        check_answers(config)
        if config.answers:
            return Head.last_token(*config.answers)
        if like is None or like.head is None:
            raise InputError("model.template needs model.answers: the word whose logit is the score, or two of them")
        return like.head

    def load(self, source: Source, config: ModelConfig, spec: ModelSpec) -> Loaded:
        """See `language_model`."""
        return Loaded(language_model(source.directory, config), tokenizer_of(source.directory), spec)

    def settings(self, head: Head, spec: ModelSpec) -> dict[str, Any]:
        """Template and answers, words or token ids."""
        return template_and_answers(head, spec)


def check_answers(config: ModelConfig) -> None:
    """Refuse more than two answer words.

    Raises:
        InputError: names them.
    """
    if len(config.answers) > 2:
        raise InputError(
            f"model.answers is {config.answers!r}; it is one or two words, for an LLM: the score is the logit of the "
            "first, less that of the second"
        )


def template_and_answers(head: Head, spec: ModelSpec) -> dict[str, Any]:
    """Settings of ``model`` that a language model's checkpoint shows."""
    answers = tuple(label for label in (head.positive, head.negative) if label is not None)
    return {"template": asdict(spec.template), "answers": answers}
