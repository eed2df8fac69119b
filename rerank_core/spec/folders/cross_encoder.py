"""Specs of CrossEncoder folders of sentence-transformers, from all that the folder says: modules, layout, prompts,
activation and limits. The formats are those of releases before 4, of 4 and 5, and from 5.4 on.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.folders.cross_encoder_modules import head_of_modules
from rerank_core.spec.folders.transformer_settings import TransformerSettings, layout_of, transformer_settings
from rerank_core.spec.head import Head
from rerank_core.spec.hub_or_folder import model_name_of
from rerank_core.spec.labels import classifier_head
from rerank_core.spec.model_option import ModelOption
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.reranker_json import has_spec, max_length_of
from rerank_core.spec.template import Template
from rerank_core.spec.untrusted_files import JsonObject, optional_json, read_json, reading

__all__ = ["contradiction", "spec_of_cross_encoder"]

_SETTINGS = "config_sentence_transformers.json"
_KNOWN = ("model_type", "__version__", "prompts", "default_prompt_name", "activation_fn", "similarity_fn_name",
          "keep_in_fp32_modules", "requirements")  # fmt: skip
_ACTIVATIONS: dict[str, Literal["none", "sigmoid"]] = {
    "torch.nn.modules.linear.Identity": "none",
    "torch.nn.Identity": "none",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.Sigmoid": "sigmoid",
}


def spec_of_cross_encoder(directory: Path, base: Path | None = None) -> ModelSpec | None:
    """The spec of a CrossEncoder folder without ``reranker.json``; None for any other folder.

    Args:
        base: for an adapter's folder, that of its base model, where it is a local one.

    Raises:
        CheckpointError: a setting that is invalid or not supported; the message names it.
    """
    saved = optional_json(directory / _SETTINGS)
    file = next((folder / "config.json" for folder in (directory, base or directory) if _has_config(folder)), None)
    config = None if file is None else read_json(file)
    adapts = file is None or file.parent != directory
    is_old = config is not None and _says_cross_encoder(config) and not os.path.lexists(directory / "modules.json")
    if has_spec(directory) or not (saved.get("model_type") == "CrossEncoder" or (is_old and not saved)):
        return None
    if unknown := sorted(set(saved) - set(_KNOWN)):
        raise CheckpointError(
            f"{saved.file}: {unknown[0]} is {short(saved[unknown[0]])}, a setting that is not supported; describe the "
            "model in a reranker.json of the folder with rerank_core.write_spec"
        )
    if os.path.lexists(directory / "modules.json"):
        settings = transformer_settings(directory)
        head = head_of_modules(directory, settings, None if adapts else config)
    else:
        settings = TransformerSettings(None, layout_of(directory), None)
        head = Head.classifier() if adapts or config is None else classifier_head(config, cross_encoder=True)
    if head.kind == "classifier" and not adapts and config is not None:
        _check_classifier(directory, config)
    template, option = _prompted(settings.template, saved)
    with reading(directory, inputs=False):
        return ModelSpec(
            name=model_name_of(directory),
            checkpoint=str(directory.resolve()),
            template=template,
            head=head,
            max_length=settings.max_length or max_length_of(directory, config or {}),
            activation=_activation(saved, config, labels=max(1, len(head.labels))),
            options=(option,),
            description="CrossEncoder of sentence-transformers, from a directory",
        )


def contradiction(spec: ModelSpec, directory: Path) -> str | None:
    """How a CrossEncoder folder contradicts a spec of plain pairs whose weights it replaces; None where it does not.

    A spec with a prompt of its own supplies it: that is what loading a name with ``checkpoint=`` is for.

    Raises:
        CheckpointError: see `spec_of_cross_encoder`.
    """
    if spec.head is None or spec.head.kind != "classifier" or spec.template != Template.pair():
        return None
    folder = spec_of_cross_encoder(directory)
    if folder is None or folder.head is None:
        return None
    prompt = next((option.default for option in folder.options if option.name == "instruction"), None)
    if folder.head.kind != "classifier":
        return f"its score head is {folder.head!r}"
    if folder.template.wrap == "chat":
        return "it writes pairs with its chat template"
    return f"its default prompt is {short(prompt)}" if prompt else None


def _has_config(directory: Path) -> bool:
    return os.path.lexists(directory / "config.json")


def _says_cross_encoder(config: JsonObject) -> bool:
    return "sentence_transformers" in config or "sbert_ce_default_activation_function" in config


def _check_classifier(directory: Path, config: JsonObject) -> None:
    """Refuse a folder without a classifier's weights, by its ``config.json``."""
    names = config.texts("architectures") or ()
    if not any(name.endswith("ForSequenceClassification") for name in names):
        raise CheckpointError(
            f"{directory} says that it is a CrossEncoder, and its architectures are {list(names)!r}, without a "
            "sequence classifier; its score head would be random"
        )


def _prompted(template: Template, saved: JsonObject) -> tuple[Template, ModelOption]:
    """The template with the option ``instruction``, which is the prompt of sentence-transformers: a text before the
    query, or the chat template's system message. By default it is the folder's default prompt."""
    prompts = saved.inner("prompts")
    texts = {name: prompts.of(name, str, "") for name in prompts}
    name = saved.of("default_prompt_name", str, "")
    if name and name not in texts:
        raise saved.wrong("default_prompt_name", f"the prompts are {sorted(texts)!r}")
    listed = "; ".join(f"{key}: {short(text)}" for key, text in texts.items() if text)
    help_text = f"the prompt (the folder has {listed})" if listed else "a prompt"
    if template.wrap == "chat":
        option = ModelOption("instruction", "str", f"{help_text}, as system message of the chat template")
        return template, replace(option, default=texts.get(name) or None)
    option = ModelOption(
        "instruction", "str", f"{help_text}, directly before the query", default=texts.get(name, ""), when="call"
    )
    return replace(template, query="{instruction}" + template.query), option


def _activation(saved: JsonObject, config: JsonObject | None, *, labels: int) -> Literal["none", "sigmoid"]:
    """The activation that the folder names in the newest of three places; where it names none, that of
    sentence-transformers: a sigmoid for a single label. The log-odds of several labels have none."""
    older = JsonObject({}, saved.file) if config is None else config
    for place, key in (
        (saved, "activation_fn"),
        (older.inner("sentence_transformers"), "activation_fn"),
        (older, "sbert_ce_default_activation_function"),
    ):
        if name := place.of(key, str, ""):
            if name not in _ACTIVATIONS:
                raise place.wrong(
                    key,
                    f"supported are {', '.join(_ACTIVATIONS)}; for the raw score, describe the model in a "
                    "reranker.json of the folder with rerank_core.write_spec",
                )
            return "none" if labels > 1 else _ACTIVATIONS[name]
    return "none" if labels > 1 else "sigmoid"
