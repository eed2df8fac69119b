"""`ModelChoice`: a model to evaluate, with its options and its label in tables."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rerank_core import InputError

__all__ = ["ModelChoice", "choices_of"]

_OPTION = re.compile(r",\s*(?P<key>[A-Za-z_]\w*)=")
# Only for labels; results and messages know the secret options of a model from its spec.
_SECRET = re.compile(r"key|token$|secret|password|header", re.IGNORECASE)


@dataclass(frozen=True)
class ModelChoice:
    """A model as the user names it.

    Attributes:
        source: what `load` takes: a name, a hub id or a directory.
        options: options of `load`.
        label: its name in tables; unique among the models of a call.
    """

    source: str
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    label: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelChoice:
        """A model and its options: ``SOURCE,KEY=VALUE,KEY=VALUE``.

        A value ends before the next ``,KEY=``, so that it may have commas. It is read as JSON, or else as a string; a
        string that contains ``,KEY=`` must be in JSON's quotes. The key ``name`` sets the label.

        >>> choice = ModelChoice.parse("mini,longdoc=firstp,max_length=256")
        >>> choice.source, dict(choice.options)
        ('mini', {'longdoc': 'firstp', 'max_length': 256})
        >>> dict(ModelChoice.parse("./a,b,instruction=Find a passage, any passage,name=mine").options)
        {'instruction': 'Find a passage, any passage'}

        Raises:
            InputError: there is no model, or an option is set twice.
        """
        source, rest = _until_option(text)
        options: dict[str, Any] = {}
        while match := _OPTION.match(rest):
            value, rest = _value(rest[match.end() :])
            if match["key"] in options:
                raise InputError(f"{match['key']!r} is given twice for the model {source!r}; give it once")
            options[match["key"]] = value
        if not source.strip() or re.match(r"\w+=", source):
            raise InputError(
                f"a model is NAME or NAME,KEY=VALUE, such as --model mini,longdoc=firstp; there is no name in {text!r}"
            )
        label = options.pop("name", "")
        return cls(source.strip(), options, str(label))


def _until_option(text: str) -> tuple[str, str]:
    """The text before the first ``,KEY=``, and the rest."""
    start = _OPTION.search(text)
    return (text, "") if start is None else (text[: start.start()], text[start.start() :])


def _value(text: str) -> tuple[Any, str]:
    """The value at the start of ``text``, and the rest."""
    if text.startswith('"'):
        with contextlib.suppress(ValueError):
            value, stop = json.JSONDecoder().raw_decode(text)
            if stop == len(text) or _OPTION.match(text, stop):
                return value, text[stop:]
    own, rest = _until_option(text)
    try:
        return json.loads(own), rest
    except (ValueError, RecursionError):
        return own, rest


def choices_of(texts: Sequence[str], common: Mapping[str, Any]) -> list[ModelChoice]:
    """The models of a command line, each with a label of its own.

    Args:
        common: options for all of them; those of a model replace them.

    Raises:
        InputError: no model, the same model with the same options twice, or a label that two models have.
    """
    if not texts:
        raise InputError("no model is given; name one or more with --model, such as --model mini")
    parsed = [ModelChoice.parse(text) for text in texts]
    sources = Counter(choice.source for choice in parsed if not choice.label)
    named = [
        replace(
            choice,
            options={**common, **choice.options},
            label=choice.label or (_label(choice) if sources[choice.source] > 1 else choice.source),
        )
        for choice in parsed
    ]
    twice = sorted(label for label, count in Counter(choice.label for choice in named).items() if count > 1)
    if twice:
        raise InputError(f"{twice[0]!r} is given twice; give it once, or tell them apart with name=LABEL")
    return named


def _label(choice: ModelChoice) -> str:
    return ",".join([choice.source, *_shown(choice.options.items())])


def _shown(options: Iterable[tuple[str, Any]]) -> list[str]:
    return [f"{key}={'***' if _SECRET.search(key) else value}" for key, value in options]
