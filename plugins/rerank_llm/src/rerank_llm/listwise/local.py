"""A local chat model, asked for the order of passages: it writes it, or its logits of the identifiers are read."""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList

from rerank_core import CheckpointError, InputError, ModelSpec, NonFiniteScoreError, Options
from rerank_core.backends.torch import TextTokenizer, TokenLogits, language_model_of, locate, tokenizer_folder
from rerank_core.spec import reading
from rerank_llm.chat import ChatTemplate, Message
from rerank_llm.listwise.permutation import Answer, parse
from rerank_llm.listwise.prompts import PROMPTS, first_token, letter, shortened, shown
from rerank_llm.listwise.sliding import SlidingRanker, check_at_least

__all__ = ["LocalJudge", "ranker"]

_LETTERS = 26


def ranker(spec: ModelSpec, options: Options) -> SlidingRanker:
    """The factory that the spec names.

    Raises:
        InputError: no checkpoint, or a window with more passages than letters.
        CheckpointError: a model without a chat template, or without a token for each letter.
    """
    if options.checkpoint is None:
        raise InputError(f"say which chat model shall rank: load({spec.name!r}, checkpoint='a hub id or a directory')")
    own = options.model
    with reading(options.checkpoint):
        judge = LocalJudge(spec, options)
    return SlidingRanker(judge, window=own["window"], stride=own["stride"])


class LocalJudge:
    """Greedy answers of a model in memory; ``first-token`` orders by the logits of the first identifier."""

    def __init__(self, spec: ModelSpec, options: Options) -> None:
        own = options.model
        self._first = own["mode"] == "first-token"
        if self._first and own["window"] > _LETTERS:
            raise InputError(f"window is {own['window']!r}; mode='first-token' has {_LETTERS} identifiers")
        dtype = options.dtype
        check_at_least("max_words", own["max_words"], 1)
        check_at_least("max_new_tokens", own["max_new_tokens"], 1)
        if dtype == "int8":
            raise InputError("dtype is 'int8', which a model that writes has not; use float32, bfloat16 or float16")
        directory = locate(spec, options)
        texts = tokenizer_folder(directory, spec, options)
        self._chat = ChatTemplate(texts)
        self._tokenizer = TextTokenizer.from_directory(texts)
        self._model: Any = language_model_of(spec, options, directory)
        self._model.generation_config = _greedy(self._model.generation_config)
        self._words, self._new = own["max_words"], own["max_new_tokens"]
        self._messages = first_token if self._first else PROMPTS[own["prompt"]]
        self._literal: dict[str, tuple[int, ...]] = {}
        added = self._tokenizer.raw.get_added_tokens_decoder().values()
        self._special = tuple(token.content for token in added if token.special)
        self._limit = getattr(self._model.config, "max_position_embeddings", None)
        if self._first:
            names = [self._single(letter(place)) for place in range(own["window"])]
            self._logits = TokenLogits(self._model, names, directory.name)
            self._logits.check(self._model.base_model)

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        ids, cut = self._fitting(query, passages)
        counts = {"prompt_tokens": len(ids), "shortened": cut}
        given = torch.tensor([ids], device=self._model.device)
        if self._first:
            return self._by_logits(given, len(passages)), counts
        with torch.inference_mode():
            out = self._model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=self._new,
                do_sample=False,
                pad_token_id=self._pad(),
                logits_processor=LogitsProcessorList([_finite]),
            )
        written = out[0, len(ids) :].tolist()
        counts["completion_tokens"] = len(written)
        # Special tokens are kept until thoughts are left out: some mark one.
        text = self._tokenizer.raw.decode(written, skip_special_tokens=False)
        return parse(text, len(passages), self._special), counts

    def close(self) -> None:
        """The weights go with the last reference to them."""

    def _by_logits(self, given: torch.Tensor, count: int) -> Answer:
        """The passages by the logits of their letters; where all are equal, nothing is said."""
        with torch.inference_mode():
            hidden = self._model.base_model(given, use_cache=False).last_hidden_state[0, -1]
            found = self._logits(hidden[None])[0, :count]
        _finite(given, found)
        logits = found.tolist()
        order = tuple(sorted(range(count), key=lambda place: (-logits[place], place)))
        said_nothing = count > 1 and len(set(logits)) == 1
        return Answer(order, well_formed=not said_nothing, missing=count if said_nothing else 0)

    def _fitting(self, query: str, passages: Sequence[str]) -> tuple[list[int], int]:
        """Ids of the prompt, and how many passages were not shown whole. Where the prompt would not fit, the longest
        are cut, all to one number of tokens, so that text without blanks is cut too and short passages stay whole.

        Raises:
            InputError: it does not fit even without the passages.
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
            # A text may be other tokens inside the prompt than alone, so the estimate is tried, and lowered.
            spare = sum(min(length, cap) for length in lengths) - (len(ids) - room)
            cap = min(cap - 1, _cap(lengths, spare))
            cut = [
                text if len(own) <= cap else text[: own.stops[cap - 1]] if cap else ""
                for text, own in zip(texts, tokens, strict=True)
            ]
            ids = self._ids(self._messages(query, cut))
        return ids, shortened(passages, cut)

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        found: list[int] = []
        parts = self._chat.parts(messages)
        with self._tokenizer.lock:
            for text, own in [*parts, ("[", True)] if self._first else parts:
                if own and text not in self._literal:
                    self._literal[text] = self._tokenizer.literal(text)
                found += self._literal[text] if own else self._tokenizer.encode([text])[0].ids
        return found

    def _single(self, name: str) -> int:
        ids = self._tokenizer.encode([name])[0].ids
        if len(ids) != 1:
            raise CheckpointError(
                f"the identifier {name!r} is {len(ids)} tokens for this tokenizer; use mode='generate'"
            )
        return ids[0]

    def _pad(self) -> int:
        config = self._model.generation_config
        for token in (config.pad_token_id, config.eos_token_id):
            if token is not None:
                return int(token[0] if isinstance(token, (list, tuple)) else token)
        return 0


def _cap(lengths: Sequence[int], spare: int) -> int:
    """The largest length to cut to, so that what is left adds up to at most ``spare``; 0 where nothing fits."""
    return bisect.bisect_right(range(max(lengths)), spare, key=lambda cap: sum(min(n, cap + 1) for n in lengths))


def _finite(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The logits as they are; a logits processor.

    Raises:
        NonFiniteScoreError: the largest is NaN or infinite, so that no token is the most likely one.
    """
    if not bool(torch.isfinite(logits.max())):
        raise NonFiniteScoreError(
            "the chat model's logits are NaN or infinite; check its weights for NaN (and dtype: float16 overflows "
            "where float32 does not)"
        )
    return logits


def _greedy(given: GenerationConfig) -> GenerationConfig:
    """What ends an answer, and nothing else of a checkpoint's own settings: Qwen2.5's penalty on repetition, say,
    falls on the brackets that an order is made of."""
    made = GenerationConfig()
    made.bos_token_id, made.eos_token_id, made.pad_token_id = given.bos_token_id, given.eos_token_id, given.pad_token_id
    return made
