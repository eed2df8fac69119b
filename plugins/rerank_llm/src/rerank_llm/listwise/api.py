"""Orders passages with a chat model behind an OpenAI-compatible endpoint."""

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

__all__ = ["ApiWindowRanker", "ranker"]

_MIN_SECRET = 8
_LOGIN = re.compile(r"(?<=//)[^/]*@")


def ranker(spec: ModelSpec, options: Options) -> SlidingRanker:
    """The factory of ``llm-listwise-api``.

    Raises:
        MissingDependencyError: the client library is not installed.
        InputError: no model or no key.
    """
    values = options.model
    return SlidingRanker(ApiWindowRanker(values), window=values["window"], stride=values["stride"])


class ApiWindowRanker:
    """Sends one request per window, at temperature 0. The key appears in no message and no ``repr``.

    Args:
        values: the model's options.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "endpoints need the openai package, which is not installed: pip install 'rerank-llm[api]'"
            ) from error
        if not values["chat_model"]:
            raise InputError("chat_model is None; name the model that the endpoint shall use: chat_model='gpt-4o-mini'")
        # A key from a file may end with a space or line break, which the client would refuse, naming the whole key.
        key = (values["api_key"] or os.environ.get("OPENAI_API_KEY") or "").strip()
        if not key:
            raise InputError("api_key is missing; pass it or set OPENAI_API_KEY (for a local server, any text)")
        if not key.isascii() or not key.isprintable():
            raise InputError("api_key has line breaks or characters beyond ASCII, which no key has; copy it again")
        check_at_least("max_words", values["max_words"], 1)
        check_at_least("retries", values["retries"], 0)
        if not (math.isfinite(values["timeout"]) and values["timeout"] > 0):
            raise InputError(f"timeout is {values['timeout']!r}; it must be a positive number of seconds")
        self._errors, self._key = openai, key
        self._model, self._words = values["chat_model"], values["max_words"]
        self._messages = PROMPTS[values["prompt"]]
        try:
            self._client = openai.OpenAI(
                api_key=key, base_url=values["base_url"], timeout=values["timeout"], max_retries=values["retries"]
            )
        except Exception as error:  # noqa: BLE001 -- the client's URL parser may raise anything
            reason = self._without_key(error)
            raise InputError(f"base_url is {self._without_key(values['base_url'])!r}: {reason}; give a URL") from None

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        texts = [shown(passage, self._words) for passage in passages]
        conversation = self._messages(shown(query), texts)
        messages: Any = [{"role": role, "content": content} for role, content in conversation]
        endpoint = f"the endpoint {self._without_key(self._client.base_url)!r}"
        # `from None`, because a traceback would print the message of the client or the server, which may hold the key.
        try:
            reply = self._client.chat.completions.create(model=self._model, messages=messages, temperature=0.0)
        except self._errors.AuthenticationError as error:
            raise InputError(f"{endpoint} refuses the api_key (HTTP {error.status_code})") from None
        except self._errors.APITimeoutError:
            raise RerankError(f"{endpoint} gave no answer in {self._client.timeout} s; raise timeout=") from None
        except self._errors.APIConnectionError as error:
            reason = self._without_key(error.__cause__ or error)
            raise RerankError(f"{endpoint} cannot be reached: {reason}") from None
        except self._errors.APIStatusError as error:
            reason = self._without_key(error.message)[:300]
            raise RerankError(f"{endpoint} answers HTTP {error.status_code}: {reason}") from None
        except (self._errors.OpenAIError, ValueError) as error:  # ValueError: a body that is not JSON
            raise RerankError(f"{endpoint} gave an answer that cannot be read: {self._without_key(error)}") from None
        content, thought = _content(reply, endpoint)
        answer = parse(content, len(passages))
        counts = {"shortened": shortened(passages, texts), **_usage(reply)}
        return replace(answer, thought=answer.thought or thought), counts

    def identity(self) -> Mapping[str, Any]:
        """The endpoint, which `Reranker.fingerprint` reads."""
        return {"endpoint": self._without_key(self._client.base_url)}

    def close(self) -> None:
        self._client.close()

    def _without_key(self, message: object) -> str:
        """A message without the key, which servers and clients repeat, and without the login in a URL."""
        text = _LOGIN.sub("", str(message))
        # A key such as "x" for a local server is no secret, and is part of many words.
        return text.replace(self._key, "***") if len(self._key) >= _MIN_SECRET else text


def _content(reply: Any, endpoint: str) -> tuple[str | None, bool]:
    """The text of an answer, and whether reasoning comes with it, in a field (DeepSeek, vLLM) or a part (Mistral). The
    client does not check types, so a reply may be anything.

    Raises:
        RerankError: the reply is not a chat completion.
    """
    choices = getattr(reply, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    content = getattr(message, "content", None)
    thought = any(getattr(message, name, None) for name in ("reasoning_content", "reasoning"))
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = [part.get("text") for part in content if part.get("type") == "text"]
        thought = thought or len(texts) < len(content)
        content = "".join(text for text in texts if isinstance(text, str))
    if not hasattr(message, "content") or not isinstance(content, (str, type(None))):
        raise RerankError(f"{endpoint} gave an answer without a choice that holds text; is it OpenAI-compatible?")
    return content, thought


def _usage(reply: Any) -> dict[str, int]:
    """The token counts of a reply, as far as it has any."""
    usage = getattr(reply, "usage", None)
    counts = {name: getattr(usage, name, None) for name in ("prompt_tokens", "completion_tokens")}
    return {name: count for name, count in counts.items() if isinstance(count, int)}
