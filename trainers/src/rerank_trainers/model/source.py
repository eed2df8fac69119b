"""From the settings of ``model`` to the files to start from, and to the spec of the model in training."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, Head, InputError, ModelOption, ModelSpec, Template, UnknownModelError
from rerank_core.backends.locate import fetch, locate
from rerank_core.backends.tokenizer import check_tokenizer_files
from rerank_core.backends.torch.load_weights import quiet
from rerank_core.options import Options
from rerank_core.plugins import registry
from rerank_core.spec.folders.adapter import is_adapter
from rerank_core.spec.hub_or_folder import remote_of
from rerank_core.spec.reranker_json import FILE_NAME
from rerank_core.spec.untrusted_files import read_json, reading
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.model.kind import DEFAULT, check_kind

__all__ = ["Source", "base_name", "source_of", "spec_to_train", "start_head", "tokenizer_of"]


@dataclass(frozen=True)
class Source:
    """The start of training.

    Attributes:
        directory: folder of config.json, weights and tokenizer.
        follows: the model whose template, head and limits apply; None for the tokenizer's pair layout.
        follows_name: name of that model as ``plugin:model``.
    """

    directory: Path
    follows: ModelSpec | None
    follows_name: str | None


def source_of(config: ModelConfig) -> Source:
    """Find the files of ``model.checkpoint`` and the model of ``model.like``.

    Raises:
        InputError: no checkpoint named, or one that ranks in another way while ``model.kind`` is not set.
        UnknownModelError: ``model.like`` is not the name of an installed model.
        CheckpointError: no such directory, hub id or package.
    """
    if not config.checkpoint:
        raise InputError("model.checkpoint names nothing to start from; give a directory, a hub id or a model's name")
    known = registry.default()
    like = known.named(config.like) if config.like else None
    named: ModelSpec | None = None
    if os.path.isfile(config.checkpoint):
        raise CheckpointError(
            f"model.checkpoint {config.checkpoint!r} is a file; give the folder of config.json, safetensors and "
            "tokenizer.json. A GGUF or ONNX file holds no weights that can be trained"
        )
    directory = known.directory(config.checkpoint)
    if directory is None:
        try:
            named = known.named(config.checkpoint)
        except UnknownModelError:
            directory, named = _fetched(config, known)
        else:
            check_kind(config, known, named)  # before a download
            directory = _located(named, config, None)
    if not (directory / "config.json").is_file() and not is_adapter(directory):
        raise CheckpointError(
            f"model.checkpoint {config.checkpoint!r}: {str(directory)!r} has no config.json; a model to train is a "
            "folder of config.json, safetensors and tokenizer.json"
        )
    if is_adapter(directory):
        raise InputError(
            f"model.checkpoint {config.checkpoint!r} holds an adapter; start from its base model, or publish it first, "
            "which merges the two"
        )
    check_kind(config, known, named or directory)
    if like is None and named is None and (directory / FILE_NAME).is_file():
        named = known.resolve(str(directory.absolute()))
    if like is None and named is not None and _serves(named, config.kind or DEFAULT):
        like = named
    plugin = known.plugin_of(like) if like is not None else None
    if plugin is not None and like is not None:
        return Source(directory.resolve(), like, f"{plugin.name}:{like.name}")
    # A published folder keeps the options and the code of the base that it names.
    base = read_json(directory / FILE_NAME).get("base") if like is not None and like is named else None
    return Source(directory.resolve(), like, base)


def _fetched(config: ModelConfig, known: registry.Registry) -> tuple[Path, ModelSpec | None]:
    """The files of a model of a hub that no plugin registers under this name, and for a repository of ModelScope the
    installed model that it copies."""
    remote = remote_of(config.checkpoint)
    if remote is None or remote.file is not None:
        raise CheckpointError(
            f"model.checkpoint is {config.checkpoint!r}: no directory, no model that is installed (`rerank models`), "
            "and not a hub id like 'owner/name' or 'modelscope:owner/name'"
        )
    named = known.copied(remote)
    if named is None:
        return fetch(config.checkpoint, revision=config.revision, offline=False), None
    check_kind(config, known, named)
    return _located(named, config, config.checkpoint), named


def _located(named: ModelSpec, config: ModelConfig, checkpoint: str | None) -> Path:
    given = {"revision": config.revision, "checkpoint": checkpoint}
    return locate(named, Options.of(named, {name: value for name, value in given.items() if value}))


# A layerwise model may follow the template of a model that answers with a word.
_HEADS = {"cross-encoder": ("classifier",), "llm": ("last_token",), "layerwise": ("layers", "last_token")}


def _serves(spec: ModelSpec, kind: str) -> bool:
    return spec.head is not None and spec.head.kind in _HEADS[kind]


def start_head(source: Source) -> Head | None:
    """The score head of the checkpoint that training starts from; None for a base model."""
    try:
        return registry.default().resolve(str(source.directory)).head
    except CheckpointError:
        return None


def spec_to_train(source: Source, config: ModelConfig, name: str) -> ModelSpec:
    """The spec of the model in training; it is published with it.

    Raises:
        InputError: ``model.like`` is of another kind, or an LLM has no template.
    """
    like, kind = source.follows, config.kind
    assert kind is not None
    if like is not None and not _serves(like, kind):
        raise InputError(
            f"model.like is {like.name!r}, whose score is a {like.head.kind if like.head else 'program'!r}; a "
            f"{kind!r} needs {' or '.join(map(repr, _HEADS[kind]))}"
        )
    if like is None and config.template is None and kind != "cross-encoder":
        known = ", ".join(spec.name for spec in registry.default().models() if _serves(spec, kind))
        raise InputError(
            f"a {kind!r} follows a template: set model.like to one of {known or 'the models of rerank-llm'}, or "
            "model.template and model.answers to your own"
        )
    template = _template(config, like)
    changed: dict[str, Any] = {
        "name": _slug(config.name or name),
        "checkpoint": str(source.directory),
        "template": template,
        "head": _head(config, like),
        "max_length": config.max_length,
        "max_query_length": config.max_query_length,
        "aliases": (),
        "revision": None,
        "sha256": {},
    }
    if like is None:
        return ModelSpec(**changed)
    if kind == "layerwise":
        changed["scorer"] = None  # its layers run in the core
    pieces = _pieces(template)
    # The model in training has one label, so it has no option of that name.
    theirs = tuple(o for o in like.options if o.name != "label" or like.head is None or not like.head.labels)
    written = theirs if config.template is None else (o for o in theirs if _mark(o) in pieces)
    changed["options"] = tuple(o for o in written if kind != "layerwise" or _mark(o) in pieces)
    return replace(like, **changed)


def base_name(source: Source, spec: ModelSpec) -> str | None:
    """``plugin:model`` whose options or code a published folder needs; None if rerank-core alone can load it."""
    pieces = _pieces(spec.template)
    needed = spec.scorer is not None or any(_mark(option) in pieces for option in spec.options)
    return source.follows_name if needed else None


def _head(config: ModelConfig, like: ModelSpec | None) -> Head | None:
    if len(config.answers) > 2 or (config.answers and config.kind == "cross-encoder"):
        raise InputError(
            f"model.answers is {config.answers!r}; it is one or two words, for an LLM: the score is the logit of the "
            "first, less that of the second"
        )
    if config.kind == "cross-encoder":
        return Head.classifier()
    if config.kind == "layerwise":
        return Head.layers(1)  # replaced once the weights are loaded
    if config.answers:
        return Head.last_token(*config.answers)
    if like is None:
        raise InputError("model.template needs model.answers: the word whose logit is the score, or two of them")
    return like.head


def _template(config: ModelConfig, like: ModelSpec | None) -> Template:
    """The template of the configuration, else of the followed model, else the tokenizer's pair layout.

    Marks that only code of the followed model can fill in are replaced by the defaults of its options.
    """
    if config.template is not None:
        return _own_template(config, like)
    if like is None:
        return Template.pair()
    if config.kind != "layerwise" or like.scorer is None:
        return like.template
    texts = {_mark(option): option.text(option.default) for option in like.options}

    def filled(piece: str) -> str:
        for mark, text in texts.items():
            piece = piece.replace(mark, text)
        return piece

    theirs = like.template
    before, between, after = (tuple(map(filled, pieces)) for pieces in (theirs.before, theirs.between, theirs.after))
    return replace(
        theirs, before=before, query=filled(theirs.query), between=between, doc=filled(theirs.doc), after=after
    )


def _own_template(config: ModelConfig, like: ModelSpec | None) -> Template:
    wrap = {"wrap": "pair"} if config.kind == "cross-encoder" else {}
    try:
        template = Template(**{**wrap, **(config.template or {})})
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


def tokenizer_of(directory: Path) -> Any:
    """The transformers tokenizer of a directory; it is published with the weights.

    Raises:
        CheckpointError: no readable tokenizer, or one without a tokenizer.json.
    """
    from transformers import AutoTokenizer

    check_tokenizer_files(directory)
    with reading(f"{directory}: the tokenizer", "cannot be read"), quiet():
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(f"{directory}: rerank-core needs a tokenizer.json, and this tokenizer has none")
    return tokenizer
