"""`prompts_of`: a template's text as the prompts of sentence-transformers, which stand before a text."""

from __future__ import annotations

from typing import NamedTuple

from rerank_core import InputError, ModelSpec
from rerank_core.errors import short
from rerank_core.spec.template import RenderedTemplate

__all__ = ["Prompts", "prompts_of"]


class Prompts(NamedTuple):
    """The text before a query and before a document."""

    query: str
    doc: str


def prompts_of(spec: ModelSpec) -> Prompts:
    """The prompts of a model that encodes query and document separately, with the defaults of its options; without the
    template's markers.

    Raises:
        InputError: a template that prompts cannot express: it has text after the caller's.
    """
    if spec.template.wrap != "each":
        raise InputError(
            f"model {spec.name!r} has a template of the kind {spec.template.wrap!r}; prompts stand for Template.each()"
        )
    defaults = {option.name: option.default for option in spec.options}
    around = RenderedTemplate.of(spec.template, spec.options, defaults, None).around
    for side, texts in around.items():
        if texts[1]:
            raise InputError(
                f"the template's {side} {short(getattr(spec.template, side))} has text after {{{side}}}, and a prompt "
                f"of sentence-transformers stands before it; move the text to the front of model.template.{side}"
            )
    return Prompts(around["query"][0], around["doc"][0])
