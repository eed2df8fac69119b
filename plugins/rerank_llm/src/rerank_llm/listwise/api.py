"""A chat model behind any OpenAI-compatible endpoint, asked for the order of passages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from rerank_core.errors import InputError, MissingDependencyError, RerankError
from rerank_core.options import Options
from rerank_core.spec import ModelSpec
from rerank_llm.listwise.permutation import Answer, parse
from rerank_llm.listwise.prompts import PROMPTS, shown
from rerank_llm.listwise.sliding import SlidingRanker

__all__ = ["ApiJudge", "ranker"]


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
        key = own["api_key"] or os.environ.get("OPENAI_API_KEY")
        if not key:
            raise InputError("api_key is missing; pass it or set OPENAI_API_KEY (any text will do for a local server)")
        self._errors = openai
        self._model, self._words = own["chat_model"], own["max_words"]
        self._messages = PROMPTS[own["prompt"]]
        self._client = openai.OpenAI(
            api_key=key, base_url=own["base_url"], timeout=own["timeout"], max_retries=own["retries"]
        )

    def order(self, query: str, passages: Sequence[str]) -> tuple[Answer, Mapping[str, int]]:
        asked = self._messages(shown(query), [shown(passage, self._words) for passage in passages])
        messages: Any = [{"role": role, "content": content} for role, content in asked]
        where = f"the endpoint {str(self._client.base_url)!r}"
        try:
            reply = self._client.chat.completions.create(model=self._model, messages=messages, temperature=0.0)
        except self._errors.AuthenticationError as error:
            raise InputError(f"{where} refuses the api_key (HTTP {error.status_code})") from None
        except self._errors.APITimeoutError as error:
            raise RerankError(f"{where} gave no answer in {self._client.timeout} s; raise timeout=") from error
        except self._errors.APIConnectionError as error:
            raise RerankError(f"{where} cannot be reached: {error.__cause__ or error}") from error
        except self._errors.APIStatusError as error:
            raise RerankError(f"{where} answers HTTP {error.status_code}: {str(error.message)[:300]}") from error
        except (self._errors.OpenAIError, ValueError) as error:  # the client lets a body that is no JSON through
            raise RerankError(f"{where} gave an answer that cannot be read: {error}") from error
        choices = getattr(reply, "choices", None)
        if not choices:
            raise RerankError(f"{where} gave an answer without a choice; is it OpenAI-compatible?")
        usage = getattr(reply, "usage", None)
        counts = {
            name: getattr(usage, name) for name in ("prompt_tokens", "completion_tokens") if getattr(usage, name, None)
        }
        return parse(choices[0].message.content, len(passages)), counts

    def close(self) -> None:
        self._client.close()
