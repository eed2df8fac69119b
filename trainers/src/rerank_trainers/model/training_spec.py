"""The spec of the model in training: template, head, limits and options, which are published with it."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

from rerank_core import InputError, ModelOption, ModelSpec, Template
from rerank_core.plugins import registry
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import ModelKind
from rerank_trainers.model.source import Source

__all__ = ["base_name", "spec_to_train"]


def spec_to_train(source: Source, config: ModelConfig, kind: ModelKind, name: str) -> ModelSpec:
    """The spec of the model in training; it is published with it.

    Raises:
        InputError: ``model.like`` is of another kind, or the kind needs a template and there is none.
    """
    like = source.follows
    if like is not None and not kind.serves(like):
        raise InputError(
            f"model.like is {like.name!r}, whose score is a {like.head.kind if like.head else 'program'!r}; a "
            f"{kind.name!r} needs {' or '.join(map(repr, kind.heads))}"
        )
    template = _template(source, config, kind)
    changed: dict[str, Any] = {
        "name": _slug(config.name or name),
        "checkpoint": str(source.directory),
        "template": template,
        "head": kind.head(config, like),
        "max_length": config.max_length,
        "max_query_length": config.max_query_length,
        "aliases": (),
        "revision": None,
        "sha256": {},
    }
    if like is None:
        return ModelSpec(**changed)
    if not kind.keeps_code:
        changed["scorer"] = None
    pieces = _pieces(template)
    # The model in training has one label, so it has no option of that name.
    theirs = tuple(o for o in like.options if o.name != "label" or like.head is None or not like.head.labels)
    written = theirs if config.template is None else (o for o in theirs if _mark(o) in pieces)
    changed["options"] = tuple(o for o in written if kind.keeps_code or _mark(o) in pieces)
    return replace(like, **changed)


def base_name(source: Source, spec: ModelSpec) -> str | None:
    """``plugin:model`` whose options or code a published folder needs; None if rerank-core alone can load it."""
    pieces = _pieces(spec.template)
    needed = spec.scorer is not None or any(_mark(option) in pieces for option in spec.options)
    return source.follows_name if needed else None


def _template(source: Source, config: ModelConfig, kind: ModelKind) -> Template:
    """The template of the configuration, else that of the kind, which may be the followed model's.

    Marks that the published folder could not fill in are replaced by the defaults of the followed model's options: its
    code is not used, or no plugin declares these options.
    """
    like = source.follows
    if config.template is not None:
        return _own_template(config, kind, like)
    template = kind.template(config, like)
    if template is None:
        known = ", ".join(spec.name for spec in registry.default().models() if kind.serves(spec))
        raise InputError(
            f"a {kind.name!r} follows a template: set model.like to one of {known or 'the models of rerank-llm'}, or "
            "model.template and model.answers to your own"
        )
    declared = source.follows_name is not None
    if like is None or (declared and (kind.keeps_code or like.scorer is None)):
        return template
    texts = {_mark(option): option.text(option.default) for option in like.options}

    def filled(piece: str) -> str:
        for mark, text in texts.items():
            piece = piece.replace(mark, text)
        return piece

    before, between, after = (tuple(map(filled, some)) for some in (template.before, template.between, template.after))
    return replace(
        template, before=before, query=filled(template.query), between=between, doc=filled(template.doc), after=after
    )


def _own_template(config: ModelConfig, kind: ModelKind, like: ModelSpec | None) -> Template:
    try:
        template = Template(**{"wrap": kind.wrap, **(config.template or {})})
    except TypeError as error:
        known = ", ".join(item.name for item in fields(Template))
        raise InputError(f"model.template has the pieces {known}: {error}") from error
    filled = {"query", "doc", "bos", *(option.name for option in (like.options if like is not None else ()))}
    unknown = sorted(set(re.findall(r"{([a-z_]+)}", _pieces(template))) - filled)
    if unknown:
        raise InputError(
            f"model.template has {{{unknown[0]}}}, for which there is no value; use only "
            f"{', '.join('{' + name + '}' for name in sorted(filled))}, or set model.like to a model with more "
            "options, such as qwen3-reranker-0.6b with {instruction}"
        )
    return template


def _pieces(template: Template) -> str:
    return "".join((*template.before, template.query, *template.between, template.doc, *template.after))


def _mark(option: ModelOption) -> str:
    return "{" + option.name + "}"


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "reranker"
