"""The text of a template around the caller's, and texts as Python code for a card."""

from __future__ import annotations

from rerank_core import ModelSpec
from rerank_core.spec.template import RenderedTemplate
from rerank_trainers.publish.probes import Pair

__all__ = ["NOTE", "as_code", "marked", "pieces", "written"]

NOTE = "Neither library reads a long document in windows, and both parse special tokens in texts."


def written(spec: ModelSpec, pair: Pair) -> Pair:
    """Query and document with the literal text of their template pieces."""
    around = _rendered(spec, None).around
    query, doc = (text.join(around[side]) for side, text in zip(("query", "doc"), pair, strict=True))
    return query, doc


def pieces(spec: ModelSpec, bos: str | None, pair: Pair) -> list[str]:
    """The pieces of a row; each is tokenized separately."""
    return _rendered(spec, bos).pieces(*pair)


def marked(name: str) -> str:
    """A text that stands for a variable; see `as_code`."""
    return f"\0{name}\0"


def as_code(text: str) -> str:
    """A text with variables (`marked`) as Python code: a name, a string, or an f-string."""
    parts = text.split("\0")
    if len(parts) == 1:
        return repr(text)
    if parts[0] == parts[2] == "" and len(parts) == 3:
        return parts[1]
    braced = [f"{{{part}}}" if at % 2 else part.replace("{", "{{").replace("}", "}}") for at, part in enumerate(parts)]
    return "f" + repr("".join(braced))


def _rendered(spec: ModelSpec, bos: str | None) -> RenderedTemplate:
    return RenderedTemplate.of(
        spec.template, spec.options, {option.name: option.default for option in spec.options}, bos
    )
