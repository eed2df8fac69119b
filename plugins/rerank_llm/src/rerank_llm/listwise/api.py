"""A chat model behind any OpenAI-compatible endpoint, asked for the order of passages."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rerank_core import InputError, MissingDependencyError, ModelSpec, Options, RerankError
from rerank_llm.listwise.permutation import Answer, parse
from rerank_llm.listwise.prompts import PROMPTS, shortened, shown
from rerank_llm.listwise.sliding import SlidingRanker, check_at_least

__all__ = ["ApiJudge", "ranker"]

_SECRET = 8
_LOGIN = re.compile(r"(?<=//)[^/]*@")


def ranker(spec: ModelSpec, options: Options) -> SlidingRanker:
    """The factory that the spec names.

    Raises:
        MissingDependencyError: the client library is not installed.
        InputError: no model or no key.
    """
    own = options.model
    return SlidingRanker(ApiJudge(own), window=own["window"], stride=own["stride"])


class ApiJudge:
    """Asks with temperature 0. The key is in no message and no representation."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "endpoints need the openai package, which is not installed: pip install 'rerank-llm[api]'"
            ) from error
        if not own["chat_model"]:
            raise InputError("chat_model is None; say which model the endpoint shall use: chat_model='gpt-4o-mini'")
        # Blanks and line breaks come along from files; the client would refuse them with the whole key in its message.
        key = (own["api_key"] or os.environ.get("OPENAI_API_KEY") or "").strip()
        if not key:
            raise InputError("api_key is missing; pass it or set OPENAI_API_KEY (any text will do for a local server)")
        if not key.isascii() or not key.isprintable():
            raise InputError("api_key holds characters that no key has (line breaks, or beyond ASCII); copy it again")
        check_at_least("max_words", own["max_words"], 1)
        check_at_least("retries", own["retries"], 0)
        if not (math.isfinite(own["timeout"]) and own["timeout"] > 0):
            raise InputError(f"timeout is {own['timeout']!r}; it must be a positive number of seconds")
        self._errors, self._key = openai, key
        self._model, self._words = own["chat_model"], own["max_words"]
        self._messages = PROMPTS[own["prompt"]]
        try:
            self._client = openai.OpenAI(
                api_key=key, base_url=own["base_url"], timeout=own["timeout"], max_retries=own["retries"]
            )
        except Exception as error:  # noqa: BLE001 -- whatever the client's URL parser makes of it
            said = self._without_key(error)
            raise InputError(f"base_url is {self._without_key(own['base_url'])!r}: {said}; give a URL") from None

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        texts = [shown(passage, self._words) for passage in passages]
        asked = self._messages(shown(query), texts)
        messages: Any = [{"role": role, "content": content} for role, content in asked]
        where = f"the endpoint {self._without_key(self._client.base_url)!r}"
        # None of these goes on as a cause: a traceback would print what the client or the server said, key and all.
        try:
            reply = self._client.chat.completions.create(model=self._model, messages=messages, temperature=0.0)
        except self._errors.AuthenticationError as error:
            raise InputError(f"{where} refuses the api_key (HTTP {error.status_code})") from None
        except self._errors.APITimeoutError:
            raise RerankError(f"{where} gave no answer in {self._client.timeout} s; raise timeout=") from None
        except self._errors.APIConnectionError as error:
            said = self._without_key(error.__cause__ or error)
            raise RerankError(f"{where} cannot be reached: {said}") from None
        except self._errors.APIStatusError as error:
            said = self._without_key(error.message)[:300]
            raise RerankError(f"{where} answers HTTP {error.status_code}: {said}") from None
        except (self._errors.OpenAIError, ValueError) as error:  # the client lets a body that is no JSON through
            raise RerankError(f"{where} gave an answer that cannot be read: {self._without_key(error)}") from None
        content, thought = _content(reply, where)
        answer = parse(content, len(passages))
        counts = {"shortened": shortened(passages, texts), **_usage(reply)}
        return replace(answer, thought=answer.thought or thought), counts

    def close(self) -> None:
        self._client.close()

    def _without_key(self, said: object) -> str:
        """A text for a message; servers and clients repeat keys, and URLs hold passwords."""
        text = _LOGIN.sub("", str(said))
        # A local server's "x" is no secret, and is in many words.
        return text.replace(self._key, "***") if len(self._key) >= _SECRET else text


def _content(reply: Any, where: str) -> tuple[str | None, bool]:
    """The text of an answer, and whether a thought stands beside it (DeepSeek and vLLM give it a field of its own,
    Mistral a part). The client checks no types, so a body may be anything.

    Raises:
        RerankError: it is no chat completion.
    """
    choices = getattr(reply, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    content = getattr(message, "content", None)
    thought = any(getattr(message, name, None) for name in ("reasoning_content", "reasoning"))
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        written = [part.get("text") for part in content if part.get("type") == "text"]
        thought = thought or len(written) < len(content)
        content = "".join(text for text in written if isinstance(text, str))
    if not hasattr(message, "content") or not isinstance(content, (str, type(None))):
        raise RerankError(f"{where} gave an answer without a choice that holds text; is it OpenAI-compatible?")
    return content, thought


def _usage(reply: Any) -> dict[str, int]:
    usage = getattr(reply, "usage", None)
    counts = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    return {name: count for name, count in counts.items() if isinstance(count, int)}
