"""A chat model behind an OpenAI-compatible endpoint as a judge."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from rerank_core import InputError, MissingDependencyError, RerankError
from rerank_eval.judging.grading_prompt import PROMPT_DIGEST, grade_in, prompt_of
from rerank_eval.judging.judge import Pair, Verdict
from rerank_eval.judging.parallel_calls import in_parallel

__all__ = ["EndpointJudge"]

_MIN_SECRET = 8
_LOGIN = re.compile(r"(?<=//)[^/]*@")
# Calls that fail one after another before the judge gives up: then it is the server and not the text.
_FAILURES = 10
# Status codes that no other text will change: key, permission, path or model.
_FINAL = frozenset({401, 403, 404})


@dataclass
class EndpointJudge:
    """Asks one request a pair, at temperature 0, several at a time.

    The key is that of ``api_key`` or of the environment variable ``OPENAI_API_KEY``; it appears in no message.

    Attributes:
        url: base URL, such as ``http://localhost:8000/v1``.
        model: the model's name at the endpoint.
        max_characters: the beginning of a document that the judge reads; a longer document is counted as shortened.
        parallel: requests at a time.

    Raises:
        MissingDependencyError: the openai package is not installed.
        InputError: the URL, the name or a number is unusable.
    """

    url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    max_characters: int = 8_000
    parallel: int = 4
    timeout: float = 120.0
    retries: int = 3
    is_graded: bool = field(default=True, init=False)
    cut: float | None = field(default=None, init=False)
    is_calibrated: bool = field(default=False, init=False)
    name: str = field(init=False)
    identity: str = field(init=False)

    def __post_init__(self) -> None:
        try:
            import openai
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                "a judge behind a URL needs openai, which is not installed: pip install 'rerank-eval[judge]'"
            ) from error
        if not self.model.strip():
            raise InputError("the judge has a URL and no model; name the model with --judge-model")
        for name in ("max_characters", "parallel", "timeout"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} of the judge is {getattr(self, name)!r}; it must be above 0")
        # A local server needs no key, and the client needs one.
        self._key = (self.api_key or os.environ.get("OPENAI_API_KEY") or "none").strip()
        if not self._key.isascii() or not self._key.isprintable():
            raise InputError("the key of the judge has line breaks or characters beyond ASCII; copy it again")
        if not re.match(r"https?://", self.url):
            raise InputError(
                f"--judge-url is {self._public(self.url)!r}; it must begin with http:// or https://, such as "
                "http://localhost:8000/v1"
            )
        self._errors = openai
        try:
            self._client = openai.OpenAI(
                api_key=self._key, base_url=self.url, timeout=self.timeout, max_retries=self.retries
            )
        except Exception as error:  # noqa: BLE001 -- the client's URL parser may raise anything
            raise InputError(f"--judge-url is {self._public(self.url)!r}: {self._public(error)}; give a URL") from None
        self.name = self.model
        self.identity = f"{self._public(self.url)} {self.model} {PROMPT_DIGEST} {self.max_characters}"

    def verdicts(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, Verdict]]:
        """See `Judge.verdicts`.

        Raises:
            InputError: the endpoint refuses the key or does not know the model.
            RerankError: ten calls in a row failed.
        """
        in_row = 0
        for at, verdict in in_parallel(self._verdict, pairs, self.parallel):
            in_row = in_row + 1 if verdict.error is not None else 0
            yield at, verdict
            if in_row >= _FAILURES:
                raise RerankError(f"the judge failed {in_row} times in a row: {verdict.error}")

    def _verdict(self, pair: Pair) -> Verdict:
        text = pair.text[: self.max_characters]
        content = prompt_of(pair.query, text, pair.instruction)
        shortened = len(text) < len(pair.text)
        endpoint = f"the endpoint {self._public(self._client.base_url)!r}"
        # `from None`, because a traceback would print the message of the server, which may hold the key.
        try:
            reply = self._client.chat.completions.create(
                model=self.model, messages=[{"role": "user", "content": content}], temperature=0.0
            )
        except self._errors.APITimeoutError:
            return Verdict(None, error=f"{endpoint} gave no answer in {self.timeout:g} s", shortened=shortened)
        except self._errors.APIStatusError as error:
            message = f"{endpoint} answers HTTP {error.status_code}: {self._public(error.message)[:300]}"
            if error.status_code in _FINAL:
                raise InputError(f"{message}; check --judge-url, --judge-model and OPENAI_API_KEY") from None
            return Verdict(None, error=message, shortened=shortened)
        except self._errors.APIConnectionError as error:
            reason = self._public(error.__cause__ or error)
            return Verdict(None, error=f"{endpoint} cannot be reached: {reason}", shortened=shortened)
        except (self._errors.OpenAIError, ValueError) as error:  # ValueError: a body that is not JSON
            message = f"{endpoint} gave an answer that cannot be read: {self._public(error)[:300]}"
            return Verdict(None, error=message, shortened=shortened)
        answer = _content(reply)
        if answer is None:
            return Verdict(None, error=f"{endpoint} gave an answer without a text", shortened=shortened)
        grade = grade_in(answer)
        return Verdict(grade, malformed=answer[:300] if grade is None else None, shortened=shortened)

    def _public(self, message: object) -> str:
        """A message without the key, which servers and clients repeat, and without the login in a URL."""
        text = _LOGIN.sub("", str(message))
        # A key such as "none" is no secret, and is part of many words.
        return text.replace(self._key, "***") if len(self._key) >= _MIN_SECRET else text

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _content(reply: Any) -> str | None:
    """The text of an answer; None where the reply is no chat completion. The client does not check types."""
    choices = getattr(reply, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    content = getattr(message, "content", None)
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None
