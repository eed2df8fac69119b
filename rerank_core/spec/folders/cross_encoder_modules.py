"""The head of a CrossEncoder folder, from ``modules.json`` of sentence-transformers and its modules' settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.folders.modules_json import Module, modules_after_transformer, pooling_of
from rerank_core.spec.folders.transformer_settings import TransformerSettings
from rerank_core.spec.head import Head
from rerank_core.spec.labels import classifier_head
from rerank_core.spec.untrusted_files import JsonObject

__all__ = ["head_of_modules"]

_TEXT_VECTOR, _SCORES = "sentence_embedding", "scores"


def head_of_modules(directory: Path, settings: TransformerSettings, config: JsonObject | None) -> Head:
    """The head that the modules after the Transformer make.

    Args:
        config: the folder's ``config.json``; None for an adapter.

    Raises:
        CheckpointError: modules in an order, or with settings, that are not supported.
    """
    modules = modules_after_transformer(directory)
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


def _dense(modules: Sequence[Module], settings: TransformerSettings) -> Head:
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
    return Head.dense(pooling_of(modules[0].settings), tuple(module.path for module in modules[1:]))


def _only(settings: JsonObject, known: Sequence[str]) -> None:
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise CheckpointError(f"{settings.file}: {unknown[0]} is a setting that is not supported; known are {known!r}")
