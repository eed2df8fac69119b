"""Reads ``modules.json`` of sentence-transformers or PyLate: the modules after the Transformer, and the pooling."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.head import Pooling
from rerank_core.spec.reranker_json import inside
from rerank_core.spec.untrusted_files import JsonObject, read_json, read_json_list

__all__ = ["Module", "modules_after_transformer", "pooling_of"]

_PACKAGES = ("sentence_transformers",)
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


def modules_after_transformer(
    directory: Path, *, vectors: str | None = None, packages: Sequence[str] = _PACKAGES
) -> list[Module]:
    """The modules after the Transformer, in their order.

    Args:
        vectors: what a Dense or Normalize must read and make: ``sentence_embedding`` or ``token_embeddings``. By
            default the caller checks it.
        packages: those whose modules are known; any other is code of the model's authors.

    Raises:
        CheckpointError: code of the model's authors, another first module than a Transformer in the folder itself,
            two modules of one name, a module that reads or makes other vectors, or a path out of the folder.
    """
    file = directory / "modules.json"
    entries = read_json_list(file)
    modules: list[Module] = []
    names: set[str] = set()
    for at, entry in enumerate(entries):
        type_, path = entry.of("type", str, ""), entry.of("path", str, "")
        package, _, kind = type_.rpartition(".")
        if package.partition(".")[0] not in packages or not kind:
            raise CheckpointError(
                f"{file}: the module {type_!r} is code of the model's authors, which is never run. Load the model by "
                "the name of a plugin that has code for it, with checkpoint=<this directory>"
            )
        if entry.get("kwargs") not in (None, [], {}):
            raise CheckpointError(f"{file}: kwargs of {type_!r} are {short(entry['kwargs'])}; they are not supported")
        # sentence-transformers keeps modules by name, so that the second of a name would take the place of the first.
        name = entry.of("name", str, str(at))
        if name in names:
            raise CheckpointError(f"{file}: two modules have the name {name!r}; give each a name of its own")
        names.add(name)
        if (at == 0) != (kind == "Transformer"):
            raise CheckpointError(
                f"{file}: module {at} is {type_!r}; supported are models whose first module, and no other, is a "
                "Transformer"
            )
        if not at and path:
            raise CheckpointError(
                f"{file}: the files of the Transformer are in {path!r}; move them to the folder itself, beside "
                "modules.json, and write an empty path for it there"
            )
        if at:
            module = Module(kind, path, _settings(inside(directory, path, file) / "config.json", kind))
            if vectors is not None and kind in ("Dense", "Normalize"):
                _check_names(module, vectors)
            modules.append(module)
    if not entries:
        raise CheckpointError(f"{file} lists no modules")
    return modules


def _settings(file: Path, kind: str) -> JsonObject:
    """The settings of a module; Normalize has none in some releases, and then no file."""
    return JsonObject({}, file) if kind == "Normalize" and not os.path.lexists(file) else read_json(file)


def _check_names(module: Module, vectors: str) -> None:
    """Refuse a module that reads or makes anything but ``vectors``."""
    default = vectors if module.kind == "Dense" else "sentence_embedding"
    read = module.settings.of("module_input_name", str, default)
    made = module.settings.of("module_output_name", str, read)
    if (read, made) != (vectors, vectors):
        raise CheckpointError(
            f"{module.settings.file}: this {module.kind} makes {made!r} of {read!r}; supported is one that makes "
            f"{vectors!r} of {vectors!r}"
        )


def pooling_of(pooling: JsonObject) -> Pooling:
    """The pooling that the settings of a Pooling module name.

    Raises:
        CheckpointError: another pooling, several, or one that leaves the prompt's tokens out.
    """
    mode = pooling.get("pooling_mode")
    modes = mode if isinstance(mode, list) else [mode] if mode is not None else []
    if not modes:
        modes = [name for setting, name in _OLD_POOLINGS.items() if pooling.of(setting, bool, False)] or ["mean"]
    if len(modes) != 1 or not isinstance(modes[0], str) or modes[0] not in _POOLINGS:
        raise CheckpointError(
            f"{pooling.file}: the pooling is {short(modes)}; supported is one of {list(_POOLINGS)!r}. Use "
            "sentence-transformers for this model"
        )
    if not pooling.of("include_prompt", bool, True):
        raise pooling.wrong("include_prompt", "pooling without the prompt's tokens is not supported")
    return _POOLINGS[modes[0]]
