"""Refuses to turn a checkpoint that ranks in another way into a cross-encoder, unless the settings ask for it."""

from __future__ import annotations

from pathlib import Path

from rerank_core import CheckpointError, InputError, ModelSpec, UnknownModelError
from rerank_core.plugins.registry import Registry
from rerank_core.spec.reranker_json import spec_of_directory
from rerank_trainers.config.schema import ModelConfig

__all__ = ["check_kind", "check_start", "unrecognised"]

# By kind of head: a description of such a model, and how to train it without changing its kind.
_OTHERS = {
    "dense": ("a cross-encoder whose score comes from layers beside it (Head.dense), which are not trained here", ""),
    "maxsim": (
        "a late-interaction model",
        "`rerank train colbert`, or --set model.kind=colbert, trains it as one. ",
    ),
    "cosine": ("an embedding model", "`rerank train embedding`, or --set model.kind=embedding, trains it as one. "),
    "last_token": (
        "a causal language model that answers with a word",
        "`rerank train llm`, or --set model.kind=llm, trains it as a language model. ",
    ),
    "layers": (
        "a causal language model with a score at every layer",
        "--set model.kind=layerwise trains it as a layerwise model. ",
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


def check_kind(config: ModelConfig, known: Registry, model: ModelSpec | Path) -> None:
    """Refuse to give a fresh score head to a model that ranks in another way, unless ``model.kind`` asks for it.

    A base model, which cannot rank yet, gets a fresh head even if ``model.kind`` is not set.

    Args:
        model: the spec of a named model, else the directory of the checkpoint.

    Raises:
        InputError: names the kind of the checkpoint and both ways to continue.
    """
    if config.kind is not None:
        return
    kind, instead = _other_kind(known, model)
    if kind:
        raise InputError(
            f"model.checkpoint {config.checkpoint!r} is {kind}. {instead}As a cross-encoder it would keep only its "
            "layers: the score head would start at random, and the model would lose its ability to rank, above all on "
            "texts unlike the training data. To train it so all the same, give --set model.kind=cross-encoder"
        )


def _other_kind(known: Registry, model: ModelSpec | Path) -> tuple[str, str]:
    """A description of the model, and how to train it without changing its kind; both empty for a cross-encoder and for
    a base model."""
    if isinstance(model, ModelSpec):
        spec = model
    else:
        try:
            spec = known.resolve(str(model.absolute()))
        except CheckpointError as error:
            if str(error) != unrecognised(known, model):
                return f"a folder that cannot be read as the kind of model that its files name ({error})", ""
            return "", ""
    if spec.head is None:
        return "a model that is scored by code of its own", ""
    return _OTHERS.get(spec.head.kind, ("", ""))


def unrecognised(known: Registry, directory: Path) -> str | None:
    """The core's error for a folder that no plugin recognises; None for a reranker."""
    try:
        spec_of_directory(str(directory.absolute()), known.named)
    except CheckpointError as error:
        return str(error)
    return None
