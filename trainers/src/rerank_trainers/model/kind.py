"""Refuses to train a checkpoint as a cross-encoder by default if it ranks in another way, which it would lose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from rerank_core import CheckpointError, InputError, ModelSpec, UnknownModelError
from rerank_core.plugins.registry import Registry
from rerank_core.spec.reranker_json import spec_of_directory
from rerank_trainers.config.schema import ModelConfig

__all__ = ["DEFAULT", "check_kind", "check_start"]

DEFAULT: Literal["cross-encoder"] = "cross-encoder"

# By kind of head: what such a model is, and how to train it as that.
_OTHERS = {
    "maxsim": ("a late-interaction model, which cannot be trained as such here", ""),
    "last_token": (
        "a causal language model that answers with a word",
        "`rerank train llm`, or --set model.kind=llm, trains it as what it is. ",
    ),
    "layers": (
        "a causal language model with a score at every layer",
        "--set model.kind=layerwise trains it as what it is. ",
    ),
}


def check_start(config: ModelConfig, known: Registry) -> None:
    """`check_kind` for checkpoints that need no download: installed names and directories.

    Raises:
        InputError: as `check_kind`; or a model without weights, such as a remote API.
    """
    if not config.checkpoint:
        return
    directory = known.directory(config.checkpoint)
    if directory is not None:
        check_kind(config, known, directory)
        return
    try:
        named = known.named(config.checkpoint)
    except UnknownModelError:
        return  # a hub id, perhaps
    if not named.checkpoint:
        raise InputError(
            f"model.checkpoint {config.checkpoint!r} has no weights of its own; give the folder or hub id of a model "
            "that has"
        )
    check_kind(config, known, named)


def check_kind(config: ModelConfig, known: Registry, found: ModelSpec | Path) -> None:
    """Refuse to give a fresh score head to a model that ranks in another way, unless ``model.kind`` asks for it.

    A base model without a way to rank gets a fresh head without being asked.

    Args:
        found: the spec of a named model, else the directory of the checkpoint.

    Raises:
        InputError: names the kind of the checkpoint and both ways to continue.
    """
    if config.kind is not None:
        return
    what, instead = _otherwise(known, found)
    if what:
        raise InputError(
            f"model.checkpoint {config.checkpoint!r} is {what}. {instead}As a cross-encoder it would keep its layers "
            "alone: the score head starts at random, and what the model knows of ranking is lost, above all on texts "
            "unlike the training data. If that is what you want, say so: --set model.kind=cross-encoder"
        )


def _otherwise(known: Registry, found: ModelSpec | Path) -> tuple[str, str]:
    """What the model is and how to train it as that; both empty for a cross-encoder and for a base model."""
    if isinstance(found, ModelSpec):
        spec = found
    else:
        try:
            spec = known.resolve(str(found.absolute()))
        except CheckpointError as error:
            if str(error) != _unrecognised(known, found):
                return f"no model that can be read as what it says it is ({error})", ""
            return ("an embedding model (its modules.json pools vectors)" if _embeds(found) else ""), ""
    if spec.head is None:
        return "scored by code of its own", ""
    return _OTHERS.get(spec.head.kind, ("", ""))


def _unrecognised(known: Registry, directory: Path) -> str | None:
    """The core's error for a folder that no plugin recognises; None for a reranker."""
    try:
        spec_of_directory(str(directory.absolute()), known.named)
    except CheckpointError as error:
        return str(error)
    return None


def _embeds(directory: Path) -> bool:
    """Whether the folder holds an embedding model of sentence-transformers."""
    path = directory / "modules.json"
    try:
        modules = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(modules, list) and any(
        isinstance(one, dict) and str(one.get("type", "")).endswith(".Pooling") for one in modules
    )
