"""From what a configuration names to files, and to the spec of the model that will come of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, Head, InputError, ModelSpec, Template, UnknownModelError, registry
from rerank_core.backends.checkpoints import fetch, locate
from rerank_core.backends.torch.loading import quiet
from rerank_core.options import Options
from rerank_core.spec_file import FILE_NAME
from rerank_trainers.config import ModelConfig

__all__ = ["Source", "fitting", "source_of", "tokenizer_of"]


@dataclass(frozen=True)
class Source:
    """Where training starts.

    Attributes:
        directory: with config.json, weights and tokenizer.
        like: the model whose template, head and limits are followed; None for the tokenizer's pair layout.
        like_name: the same as ``plugin:model``.
    """

    directory: Path
    like: ModelSpec | None
    like_name: str | None


def source_of(config: ModelConfig) -> Source:
    """Find the files of ``checkpoint``, and the model to be like.

    Raises:
        InputError: no checkpoint named.
        UnknownModelError: no model of the name in ``like``.
        CheckpointError: no such directory, hub id or package.
    """
    if not config.checkpoint:
        raise InputError("model.checkpoint names nothing to start from; give a directory, a hub id or a model's name")
    known = registry.default()
    like = known.named(config.like) if config.like else None
    named: ModelSpec | None = None
    path = Path(config.checkpoint)
    if path.is_dir():
        directory = path
        if like is None and (path / FILE_NAME).is_file():
            named = known.resolve(str(path))
    else:
        try:
            named = known.named(config.checkpoint)
        except UnknownModelError:
            directory = _fetched(config)
        else:
            directory = locate(named, Options.of(named, {"revision": config.revision} if config.revision else {}))
    like = like or (named if named is not None and _serves(named, config.kind) else None)
    plugin = known.plugin_of(like) if like is not None else None
    return Source(directory, like, f"{plugin.name}:{like.name}" if plugin and like else None)


def _fetched(config: ModelConfig) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", config.checkpoint):
        raise CheckpointError(
            f"model.checkpoint is {config.checkpoint!r}: no directory, no model that is installed (`rerank models`), "
            "and not a hub id like 'owner/name'"
        )
    return fetch(config.checkpoint, revision=config.revision, offline=False)


_HEADS = {"cross-encoder": "classifier", "llm": "last_token", "layerwise": "layers"}


def _serves(spec: ModelSpec, kind: str) -> bool:
    return spec.head is not None and spec.head.kind == _HEADS[kind]


def fitting(source: Source, config: ModelConfig, name: str) -> ModelSpec:
    """The spec of the model in training, and of what is published.

    Raises:
        InputError: a model to be like of another kind, or an LLM without a template.
    """
    like, kind = source.like, config.kind
    if like is not None and not _serves(like, kind):
        raise InputError(
            f"model.like is {like.name!r}, whose score is a {like.head.kind if like.head else 'program'!r}; a "
            f"{kind!r} needs {_HEADS[kind]!r}"
        )
    common: dict[str, Any] = {
        "name": _slug(config.name or name),
        "checkpoint": str(source.directory.resolve()),
        "max_length": config.max_length,
        "max_query_length": config.max_query_length,
        "aliases": (),
        "revision": None,
        "sha256": {},
    }
    if config.template is not None or config.answers:
        template = Template(**config.template) if config.template else (like.template if like else Template())
        head = Head.last_token(*config.answers) if config.answers else (like.head if like else None)
        return ModelSpec(template=template, head=head, **common)
    if like is not None:
        return replace(like, **common)
    if kind == "cross-encoder":
        return ModelSpec(template=Template.pair(), head=Head.classifier(), **common)
    known = ", ".join(spec.name for spec in registry.default().models() if _serves(spec, kind))
    raise InputError(
        f"a {kind!r} follows a template: set model.like to one of {known or 'the models of rerank-llm'}, or "
        "model.template and model.answers to your own"
    )


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "reranker"


def tokenizer_of(directory: Path) -> Any:
    """The transformers tokenizer of a directory, which is published with the weights.

    Raises:
        CheckpointError: none that can be read.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"{directory}: the tokenizer cannot be read: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(f"{directory}: rerank-core needs a tokenizer.json, and this tokenizer has none")
    return tokenizer
