"""Finds the checkpoint of a run and loads it as a `Model`."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from rerank_core import CheckpointError, InputError, ModelSpec
from rerank_core.backends.torch import scorer_of
from rerank_core.backends.torch.lora.load import merge_into
from rerank_core.plugins import registry
from rerank_core.spec.folders.adapter import CONFIG, is_adapter
from rerank_core.spec.hub_or_folder import file_path_of
from rerank_core.spec.reranker_json import FILE_NAME
from rerank_core.spec.untrusted_files import read_json
from rerank_trainers.config.parse import parse_config, read_config
from rerank_trainers.config.schema import Config, ModelConfig
from rerank_trainers.model.checkpoint_files import flaw_of, numbered, state_of, whole_checkpoints
from rerank_trainers.model.kind import Kinds, ModelKind
from rerank_trainers.model.source import tokenizer_of
from rerank_trainers.model.trained_model import Model, open_model

__all__ = ["config_beside", "find_checkpoint", "open_checkpoint"]

_LOG = logging.getLogger("rerank_trainers")


def find_checkpoint(path: Path, number: int | None = None) -> Path:
    """The checkpoint after ``number`` steps; by default the best one, or without a dev set the last.

    Args:
        path: folder of a run, or of a checkpoint.

    Raises:
        InputError: no checkpoint, none with that number, or an incomplete one.
    """
    file_path_of(path, "the folder of the run")
    if (path / FILE_NAME).is_file() and number is None:
        return _checked(path)
    folders = numbered(path)
    if number is not None and folders:
        if number not in folders:
            raise InputError(f"{str(path)!r} has no checkpoint {number}; there are {', '.join(map(str, folders))}")
        return _checked(folders[number])
    complete = whole_checkpoints(path)
    if not complete:
        broken = f"; none of its {len(folders)} is complete" if folders else ""
        raise InputError(f"{str(path)!r} has no checkpoint: neither {FILE_NAME} nor checkpoints/checkpoint-N{broken}")
    last = complete[max(complete)]
    best = state_of(last).get("best_model_checkpoint")
    if not best:
        return last
    # The run may have been moved since.
    chosen = next((folder for folder in complete.values() if folder.name == Path(best).name), None)
    if chosen is None:
        _LOG.warning(
            "%s, the best checkpoint of the run, is missing or incomplete; the last one is used: %s", best, last
        )
    return chosen or last


def _checked(checkpoint: Path) -> Path:
    if flaw := flaw_of(checkpoint):
        raise InputError(f"{str(checkpoint)!r} is not a complete checkpoint: {flaw}; choose another with --checkpoint")
    return checkpoint


def config_beside(checkpoint: Path) -> Config | None:
    """The configuration of the run that a checkpoint belongs to; None if the checkpoint was moved out of its run."""
    path = checkpoint.parent.parent / "config.json"
    if checkpoint.parent.name != "checkpoints" or not path.is_file():
        return None
    return parse_config(read_config(path))


def open_checkpoint(directory: Path, kinds: Kinds, config: ModelConfig | None = None) -> Model:
    """Load a checkpoint in float32 and eval mode; an adapter is merged into its base model.

    Args:
        kinds: the kinds that can be trained.
        config: model settings of the run; they name the base model of an adapter.

    Raises:
        CheckpointError: files that cannot be loaded, or missing weights.
        InputError: a score head that rerank-trainers does not train, or an adapter without the name of its base model.
    """
    spec = registry.default().resolve(str(directory))
    base = read_json(directory / FILE_NAME).get("base")
    # lora=None loads a quantized base in full precision, so that the adapter can be merged.
    kind = _kind(directory, spec, kinds) if config is None else kinds[config.kind or "cross-encoder"]
    settings = config or _guessed(directory, spec, kind)
    settings = replace(settings, lora=None, gradient_checkpointing=False, name=spec.name)
    adapter = is_adapter(directory)
    if not adapter:
        settings = replace(settings, checkpoint=str(directory), like=None, template=None, answers=(), revision=None)
        # Its reranker.json has these.
        settings = replace(settings, pooling=None, width=None, prompts=None, reduce=None, tokens=None)
    model = open_model(settings, kind, name=spec.name)
    tokenizer = tokenizer_of(directory)
    held = merge_into(model.module, directory).whole if adapter else {}
    fresh = [name for name in model.fresh if name not in held]
    if fresh:
        raise CheckpointError(f"{str(directory)!r} lacks weights: {list(fresh[:5])!r}, {len(fresh)} in all")
    module = model.module.eval()
    scorer = scorer_of(module, tokenizer, spec)
    origin = (config or settings).checkpoint
    return Model(kind, module, tokenizer, spec, scorer, base, (), origin, model.widths)


def _kind(directory: Path, spec: ModelSpec, kinds: Kinds) -> ModelKind:
    """The kind whose own head, the first of its heads, the checkpoint has."""
    for kind in kinds.values():
        if spec.head is not None and kind.heads[0] == spec.head.kind:
            return kind
    raise InputError(f"{str(directory)!r} is no checkpoint of this trainer: its head is {spec.head!r}")


def _guessed(directory: Path, spec: ModelSpec, kind: ModelKind) -> ModelConfig:
    """Model settings read from the files of a checkpoint."""
    assert spec.head is not None
    base = read_json(directory / CONFIG).get("base_model_name_or_path") if is_adapter(directory) else None
    name: Any = kind.name
    settings = ModelConfig(kind=name, checkpoint=str(base or ""), max_length=spec.max_length)
    return replace(settings, max_query_length=spec.max_query_length, **kind.settings(spec.head, spec))
