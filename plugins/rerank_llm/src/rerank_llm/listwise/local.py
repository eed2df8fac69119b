"""Orders passages with a local chat model: from the answer that it writes, or from its logits of the identifiers."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from rerank_core import CheckpointError, InputError, ModelSpec, NonFiniteScoreError, Options
from rerank_core.backends.torch import (
    TextTokenizer,
    TokenLogits,
    language_model_of,
    locate,
    open_tokenizer,
    tokenizer_folder,
)
from rerank_core.spec import reading
from rerank_llm.chat import ChatTemplate, Message, PlainText
from rerank_llm.listwise.permutation import Answer, parse
from rerank_llm.listwise.prompts import PROMPTS, first_token, letter, shortened, shown
from rerank_llm.listwise.sliding import SlidingRanker, check_at_least

__all__ = ["LocalWindowRanker", "ranker"]

_LETTERS = 26


def ranker(spec: ModelSpec, options: Options) -> SlidingRanker:
    """The factory of ``llm-listwise``.

    Raises:
        InputError: no checkpoint, or in mode first-token a window with more passages than letters.
        CheckpointError: a model without a chat template, or without a token for each letter.
    """
    if options.checkpoint is None:
        raise InputError(
            f"{spec.name!r} needs a chat model: load({spec.name!r}, checkpoint='a hub id, a directory or a .gguf file')"
        )
    values = options.model
    with reading(options.checkpoint):
        window_ranker = LocalWindowRanker(spec, options)
    return SlidingRanker(window_ranker, window=values["window"], stride=values["stride"])


class LocalWindowRanker:
    """Decodes greedily; in mode ``first-token`` it orders by the logits of the first identifier."""

    def __init__(self, spec: ModelSpec, options: Options) -> None:
        values = options.model
        self._first = values["mode"] == "first-token"
        if self._first and values["window"] > _LETTERS:
            raise InputError(f"window is {values['window']!r}; mode='first-token' has {_LETTERS} identifiers")
        dtype = options.dtype
        check_at_least("max_words", values["max_words"], 1)
        check_at_least("max_new_tokens", values["max_new_tokens"], 1)
        if dtype == "int8":
            raise InputError("dtype is 'int8', which listwise models do not support; use float32, bfloat16 or float16")
        directory = locate(spec, options)
        tokenizer_directory = tokenizer_folder(directory, spec, options)
        opened = open_tokenizer(tokenizer_directory)
        self._chat = (
            PlainText(tokenizer_directory, opened)
            if values["prompt"] == "plain"
            else ChatTemplate(tokenizer_directory, opened, instead="give prompt='plain'")
        )
        self._tokenizer = TextTokenizer.from_directory(tokenizer_directory)
        self._model: Any = language_model_of(spec, options, directory)
        self._model.generation_config = _greedy(self._model.generation_config)
        self._words, self._new = values["max_words"], values["max_new_tokens"]
        self._messages = first_token if self._first else PROMPTS[values["prompt"]]
        self._literal: dict[str, tuple[int, ...]] = {}
        added = self._tokenizer.raw.get_added_tokens_decoder().values()
        self._special = tuple(token.content for token in added if token.special)
        self._limit = getattr(self._model.config, "max_position_embeddings", None)
        if self._first:
            letters = [self._single(letter(position)) for position in range(values["window"])]
            self._logits = TokenLogits(self._model, letters, directory.name)
            self._logits.check(self._model.base_model)

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        ids, cut = self._fitting(query, passages)
        counts = {"prompt_tokens": len(ids), "shortened": cut}
        prompt = torch.tensor([ids], device=self._model.device)
        if self._first:
            return self._by_logits(prompt, len(passages)), counts
        with torch.inference_mode():
            out = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=self._new,
                do_sample=False,
                pad_token_id=self._pad(),
                logits_processor=LogitsProcessorList([_finite]),
            )
        answer = out[0, len(ids) :].tolist()
        counts["completion_tokens"] = len(answer)
        # Special tokens are decoded too, because some of them mark reasoning sections.
        text = self._tokenizer.raw.decode(answer, skip_special_tokens=False)
        return parse(text, len(passages), self._special), counts

    def close(self) -> None:
        """Nothing to do: the weights are freed with the last reference to the model."""

    def _by_logits(self, prompt: torch.Tensor, count: int) -> Answer:
        """The order of the logits of the letters. Equal logits for all letters count as an answer without an order."""
        with torch.inference_mode():
            hidden = self._model.base_model(prompt, use_cache=False).last_hidden_state[0, -1]
            logits = self._logits(hidden[None])[0, :count]
        values = _finite(prompt, logits).tolist()
        order = tuple(sorted(range(count), key=lambda position: (-values[position], position)))
        all_equal = count > 1 and len(set(values)) == 1
        return Answer(order, well_formed=not all_equal, missing=count if all_equal else 0)

    def _fitting(self, query: str, passages: Sequence[str]) -> tuple[list[int], int]:
        """Token ids of the prompt, and the number of passages that are cut in it. Where the prompt is too long for the
        model, the longest passages are cut to one number of tokens, so that short ones stay whole.

        Raises:
            InputError: the prompt is too long even without the passages.
        """
        query, texts = shown(query), [shown(passage, self._words) for passage in passages]
        ids = self._ids(self._messages(query, texts))
        if self._limit is None or len(ids) <= (room := self._limit - (1 if self._first else self._new)):
            return ids, shortened(passages, texts)
        with self._tokenizer.lock:
            tokens = self._tokenizer.encode(texts)
        lengths = [len(each) for each in tokens]
        cap, cut = max(lengths), texts
        while len(ids) > room:
            if cap == 0:
                raise InputError(
                    f"the prompt for {len(passages)} passages has {len(ids)} tokens without them, and the model reads "
                    f"{room}; use a smaller window, a shorter query or a smaller max_new_tokens"
                )
            # A text may have other tokens inside the prompt than on its own, so this estimate is lowered until it fits.
            spare = sum(min(length, cap) for length in lengths) - (len(ids) - room)
            cap = min(cap - 1, _cap(lengths, spare))
            cut = [
                text if len(text_tokens) <= cap else text[: text_tokens.stops[cap - 1]] if cap else ""
                for text, text_tokens in zip(texts, tokens, strict=True)
            ]
            ids = self._ids(self._messages(query, cut))
        return ids, shortened(passages, cut)

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation; only text of the template may become special tokens."""
        ids: list[int] = []
        parts = self._chat.parts(messages)
        with self._tokenizer.lock:
            for text, is_template in [*parts, ("[", True)] if self._first else parts:
                if is_template and text not in self._literal:
                    self._literal[text] = self._tokenizer.literal(text)
                ids += self._literal[text] if is_template else self._tokenizer.encode([text])[0].ids
        return ids

    def _single(self, name: str) -> int:
        """The token id of an identifier.

        Raises:
            CheckpointError: it is not one token.
        """
        ids = self._tokenizer.encode([name])[0].ids
        if len(ids) != 1:
            raise CheckpointError(
                f"the identifier {name!r} is {len(ids)} tokens for this tokenizer; use mode='generate'"
            )
        return ids[0]

    def _pad(self) -> int:
        """The token id for padding: the model's own, else its end token, else 0."""
        config = self._model.generation_config
        for token in (config.pad_token_id, config.eos_token_id):
            if token is not None:
                return int(token[0] if isinstance(token, (list, tuple)) else token)
        return 0


def _cap(lengths: Sequence[int], spare: int) -> int:
    """The largest cap with which the capped lengths add up to at most ``spare``; 0 where no cap does."""
    return bisect.bisect_right(range(max(lengths)), spare, key=lambda cap: sum(min(n, cap + 1) for n in lengths))


def _finite(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """A logits processor that returns the logits unchanged.

    Raises:
        NonFiniteScoreError: the largest logit is NaN or infinite, so that no token is the most likely one.
    """
    if not bool(torch.isfinite(logits.max())):
        raise NonFiniteScoreError(
            "the chat model's logits are NaN or infinite; check its weights for NaN (and dtype: float16 overflows "
            "where float32 does not)"
        )
    return logits


def _greedy(config: GenerationConfig) -> GenerationConfig:
    """A configuration for greedy decoding with the special tokens of ``config`` and no other setting: Qwen2.5's
    repetition penalty, for example, would lower the logits of the brackets in an order."""
    greedy = GenerationConfig()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(greedy, name, getattr(config, name))
    return greedy
