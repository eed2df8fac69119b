"""The head of a CrossEncoder folder, from ``modules.json`` of sentence-transformers and its modules' settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.folders.transformer_settings import TransformerSettings
from rerank_core.spec.head import Head, Pooling
from rerank_core.spec.labels import classifier_head
from rerank_core.spec.reranker_json import inside
from rerank_core.spec.untrusted_files import JsonObject, read_json, read_json_list

__all__ = ["head_of_modules"]

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
_TEXT_VECTOR, _SCORES = "sentence_embedding", "scores"


@dataclass(frozen=True)
class _Module:
    """One entry of ``modules.json``: its class, its folder and its settings."""

    kind: str
    path: str
    settings: JsonObject


def head_of_modules(directory: Path, settings: TransformerSettings, config: JsonObject | None) -> Head:
    """The head that the modules after the Transformer make.

    Args:
        config: the folder's ``config.json``; None for an adapter.

    Raises:
        CheckpointError: modules in an order, or with settings, that are not supported.
    """
    modules = _modules(directory)
    kinds = [module.kind for module in modules]
    if not kinds:
        return _classifier(directory, settings, config)
    if kinds == ["LogitScore"]:
        return _logit_score(modules[0].settings, settings)
    if kinds[0] == "Pooling" and kinds[-1] == "Dense":
        return _dense(modules, settings)
    raise CheckpointError(
        f"{directory / 'modules.json'}: the modules after the Transformer are {kinds!r}; supported are none, "
        "LogitScore, and Pooling with Dense and LayerNorm layers that end in one score"
    )


def _modules(directory: Path) -> list[_Module]:
    """The modules after the Transformer."""
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
            modules.append(_Module(kind, path, JsonObject({}, settings_file) if is_bare else read_json(settings_file)))
    if not entries:
        raise CheckpointError(f"{file} lists no modules")
    return modules


def _classifier(directory: Path, settings: TransformerSettings, config: JsonObject | None) -> Head:
    if settings.task not in (None, "sequence-classification"):
        raise CheckpointError(
            f"{directory}: transformer_task is {settings.task!r}, and modules.json has no module that makes a score of "
            "its output"
        )
    # An adapter is for a classifier with one label.
    return Head.classifier() if config is None else classifier_head(config, cross_encoder=True)


def _logit_score(score: JsonObject, settings: TransformerSettings) -> Head:
    if settings.task != "text-generation":
        raise CheckpointError(
            f"{score.file}: LogitScore reads a language model, and transformer_task is {settings.task!r}"
        )
    _only(score, ("true_token_id", "false_token_id", "module_input_name"))
    if score.of("module_input_name", str, "causal_logits") != "causal_logits":
        raise score.wrong("module_input_name", "only 'causal_logits' is supported")
    positive, negative = score.of("true_token_id", int, -1), score.get("false_token_id")
    if positive < 0 or (negative is not None and score.of("false_token_id", int, -1) < 0):
        raise CheckpointError(
            f"{score.file}: true_token_id is {short(score.get('true_token_id'))} and false_token_id {short(negative)}; "
            "they must be token ids, the second one or null"
        )
    return Head.last_token(positive, negative)


def _dense(modules: Sequence[_Module], settings: TransformerSettings) -> Head:
    if settings.task not in (None, "feature-extraction"):
        raise CheckpointError(
            f"{modules[0].settings.file}: Pooling reads hidden states, and transformer_task is {settings.task!r}"
        )
    for module in modules[1:-1]:
        if module.kind not in ("Dense", "LayerNorm", "Dropout", "Normalize"):
            raise CheckpointError(f"{module.settings.file}: a {module.kind} module in a score head is not supported")
    for module in modules[1:]:
        if module.kind != "Dense":
            continue
        given = module.settings.of("module_input_name", str, _TEXT_VECTOR)
        made = module.settings.of("module_output_name", str, "") or given
        if given != _TEXT_VECTOR or made != (_SCORES if module is modules[-1] else _TEXT_VECTOR):
            raise CheckpointError(
                f"{module.settings.file}: this Dense layer makes {made!r} of {given!r}; the last one must make "
                f"{_SCORES!r} of {_TEXT_VECTOR!r}, and any other {_TEXT_VECTOR!r}"
            )
    if modules[-1].settings.of("out_features", int, 1) != 1:
        raise modules[-1].settings.wrong("out_features", "a reranker's last Dense layer has one output, its score")
    return Head.dense(_pooling(modules[0].settings), tuple(module.path for module in modules[1:]))


def _pooling(pooling: JsonObject) -> Pooling:
    mode = pooling.get("pooling_mode")
    modes = mode if isinstance(mode, list) else [mode] if mode is not None else []
    if not modes:
        modes = [name for setting, name in _OLD_POOLINGS.items() if pooling.of(setting, bool, False)] or ["mean"]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise CheckpointError(f"{pooling.file}: the pooling is {short(modes)}; supported is one of {list(_POOLINGS)!r}")
    if not pooling.of("include_prompt", bool, True):
        raise pooling.wrong("include_prompt", "pooling without the prompt's tokens is not supported")
    return _POOLINGS[modes[0]]


def _only(settings: JsonObject, known: Sequence[str]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise CheckpointError(f"{settings.file}: {unknown[0]} is a setting that is not supported; known are {known!r}")
