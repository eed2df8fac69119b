"""Reads ``modules.json`` of a sentence-transformers folder: the modules after the Transformer, and the pooling."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.head import Pooling
from rerank_core.spec.reranker_json import inside
from rerank_core.spec.untrusted_files import JsonObject, read_json, read_json_list

__all__ = ["Module", "modules_after_transformer", "pooling_of"]

_PACKAGE = "sentence_transformers."
# The poolings by name, and the settings of older releases.
_POOLINGS: Mapping[str, Pooling] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}
_OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Module:
    """One entry of ``modules.json``: its class, its folder and its settings."""

    kind: str
    path: str
    settings: JsonObject


def modules_after_transformer(directory: Path) -> list[Module]:
    """The modules after the Transformer.

    Raises:
        CheckpointError: code of the model's authors, a Transformer elsewhere, or a path out of the folder.
    """
    file = directory / "modules.json"
    entries = read_json_list(file)
    modules = []
    for at, entry in enumerate(entries):
        name, path = entry.of("type", str, ""), entry.of("path", str, "")
        package, _, kind = name.rpartition(".")
        if not f"{package}.".startswith(_PACKAGE):
            raise CheckpointError(
                f"{file}: the module {name!r} is code of the model's authors, which is never run. Load the model by "
                "the name of a plugin that has code for it, with checkpoint=<this directory>"
            )
        if entry.get("kwargs") not in (None, [], {}):
            raise CheckpointError(f"{file}: kwargs of {name!r} are {short(entry['kwargs'])}; they are not supported")
        if (at == 0) != (kind == "Transformer") or (at == 0 and path):
            raise CheckpointError(
                f"{file}: the first module, and no other, must be a Transformer in the folder itself, not {name!r} in "
                f"{path!r}"
            )
        if at:
            folder = inside(directory, path, file)
            settings_file = folder / "config.json"
            # Normalize has no settings, and in some releases no file.
            is_bare = kind == "Normalize" and not os.path.lexists(settings_file)
            modules.append(Module(kind, path, JsonObject({}, settings_file) if is_bare else read_json(settings_file)))
    if not entries:
        raise CheckpointError(f"{file} lists no modules")
    return modules


def pooling_of(pooling: JsonObject) -> Pooling:
    """The pooling that the settings of a Pooling module name.

    Raises:
        CheckpointError: another pooling, several, or one that leaves the prompt's tokens out.
    """
    mode = pooling.get("pooling_mode")
    modes = mode if isinstance(mode, list) else [mode] if mode is not None else []
    if not modes:
        modes = [name for setting, name in _OLD_POOLINGS.items() if pooling.of(setting, bool, False)] or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(f"{pooling.file}: the pooling is {short(modes)}; supported is one of {list(_POOLINGS)!r}")
    if not pooling.of("include_prompt", bool, True):
        raise pooling.wrong("include_prompt", "pooling without the prompt's tokens is not supported")
    return _POOLINGS[modes[0]]
