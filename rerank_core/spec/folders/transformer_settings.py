"""What ``sentence_bert_config.json`` says about the Transformer module of a sentence-transformers folder.

Each setting of sentence-transformers 6.2 is followed or has no effect on scores; any other is refused by its name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.template import Template
from rerank_core.spec.untrusted_files import JsonObject, optional_json, read_json

__all__ = ["TransformerSettings", "encoder_settings", "layout_of", "transformer_settings"]

_FILES = ("sentence_bert_config.json", *(
    f"sentence_{name}_config.json" for name in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
))  # fmt: skip

# The tasks, and the output of the transformers model that each reads.
_OUTPUTS = {
    "sequence-classification": "logits",
    "text-generation": "logits",
    "feature-extraction": "last_hidden_state",
}
# Settings without effect on the scores: how batches are padded, and the limit of encode_query: a query is read whole.
_NO_EFFECT = ("unpad_inputs", "query_length", "module_output_name")
_KNOWN = ("transformer_task", "modality_config", "processing_kwargs", "max_seq_length", "do_lower_case",
          "document_length", "query_expansion")  # fmt: skip
# Arguments of from_pretrained, by the names of several releases.
_ARGUMENTS = ("model_args", "model_kwargs", "config_args", "config_kwargs")
_PROCESSOR_ARGUMENTS = ("tokenizer_args", "processor_kwargs")
_HARMLESS = ("trust_remote_code", "token", "cache_dir", "revision", "local_files_only", "use_fast", "padding_side",
             "torch_dtype", "dtype", "attn_implementation", "use_cache", "low_cpu_mem_usage")  # fmt: skip
# Arguments of the tokenizer's call that change no token of a pair that fits; rows are cut by our own rule.
_CALL = ("padding", "padding_side", "pad_to_multiple_of", "truncation", "return_tensors", "logits_to_keep")


@dataclass(frozen=True)
class TransformerSettings:
    """Settings of the Transformer module.

    Attributes:
        task: ``sequence-classification``, ``text-generation`` or ``feature-extraction``; None where the file does not
            say.
        template: the pair layout, or the chat template.
        max_length: the maximum tokens of a row; None where the file does not say.
        document_length: the maximum tokens of a document that `encode_document` of sentence-transformers reads; None
            where the file does not say. A CrossEncoder does not use it.
        query_expansion: how `encode_query` fills queries up; None where it does not. A CrossEncoder does not use it.
    """

    task: str | None
    template: Template
    max_length: int | None
    document_length: int | None = None
    query_expansion: JsonObject | None = None


def transformer_settings(directory: Path, *, default: str = "sequence-classification") -> TransformerSettings:
    """Read the settings of a folder.

    Args:
        default: the task where the file does not say one.

    Raises:
        CheckpointError: a setting that is invalid or not supported.
    """
    file = next((directory / name for name in _FILES if os.path.lexists(directory / name)), None)
    settings = JsonObject({}, directory / _FILES[0]) if file is None else read_json(file)
    _refuse_unknown(settings, (*_KNOWN, *_NO_EFFECT, *_ARGUMENTS, *_PROCESSOR_ARGUMENTS, "tokenizer_name_or_path"))
    if settings.get("tokenizer_name_or_path") is not None:
        raise settings.wrong("tokenizer_name_or_path", "the tokenizer must be in the folder itself")
    task = settings.of("transformer_task", str, "") or None
    if task is not None and task not in _OUTPUTS:
        raise settings.wrong("transformer_task", f"supported are {', '.join(_OUTPUTS)}")
    if settings.of("do_lower_case", bool, False) and not _lowers(directory):
        raise settings.wrong("do_lower_case", "the tokenizer keeps capitals; lower-case text in tokenizer.json instead")
    for name in _ARGUMENTS:
        _refuse_unknown(settings.inner(name), _HARMLESS, name)
    limits = [settings.of("max_seq_length", int, 0)]
    for name in _PROCESSOR_ARGUMENTS:
        arguments = settings.inner(name)
        _refuse_unknown(arguments, (*_HARMLESS, "model_max_length"), name)
        limits.insert(0, arguments.of("model_max_length", int, 0))
    calls = settings.inner("processing_kwargs")
    _refuse_unknown(calls, ("common", "text", "chat_template", "audio", "image", "video"), "processing_kwargs")
    text, common, chat = (calls.inner(name) for name in ("text", "common", "chat_template"))
    _refuse_unknown(text, (*_CALL, "max_length"), "processing_kwargs.text")
    _refuse_unknown(common, (*_CALL, "max_length"), "processing_kwargs.common")
    limits = [*(arguments.of("max_length", int, 0) for arguments in (chat, text, common)), *limits]
    return TransformerSettings(
        task,
        _template(settings, task or default, chat),
        max_length=next((limit for limit in limits if limit > 0), None),
        document_length=settings.of("document_length", int, 0) or None,
        query_expansion=settings.inner("query_expansion") or None,
    )


def encoder_settings(directory: Path) -> TransformerSettings:
    """The settings of a folder whose Transformer reads plain text and gives hidden states.

    Raises:
        CheckpointError: another Transformer, or a setting that is invalid or not supported.
    """
    settings = transformer_settings(directory, default="feature-extraction")
    if settings.task not in (None, "feature-extraction") or settings.template.wrap != "pair":
        raise CheckpointError(
            f"{directory}: sentence_bert_config.json has the task {settings.task!r} and the layout "
            f"{settings.template.wrap!r}; an embedding model reads plain text and gives hidden states"
        )
    return settings


def layout_of(directory: Path) -> Template:
    """The layout of a classifier's folder that has no settings of sentence-transformers: its chat template where it has
    one, else the tokenizer's pair layout."""
    settings = optional_json(directory / "tokenizer_config.json")
    has_chat = os.path.lexists(directory / "chat_template.jinja") or bool(settings.get("chat_template"))
    return Template.chat() if has_chat else Template.pair()


def _template(settings: JsonObject, task: str, variables: JsonObject) -> Template:
    """The layout of a pair: through the chat template where the folder has the modality ``message``, else plain."""
    modalities = settings.inner("modality_config")
    for name in ("message", "text"):
        if name in modalities:
            _check_output(settings, modalities.inner(name), task)
            break
    else:
        if modalities:
            raise settings.wrong("modality_config", "it must have text or message")
    if "message" not in modalities:
        return Template.pair()
    form = modalities.inner("message").of("format", str, "auto")
    if form not in ("auto", "flat", "structured"):
        raise CheckpointError(f"{settings.file}: the format of message is {short(form)}; it must be flat or structured")
    # `restore_suffix` says that the end of the template stays where a row is cut, as it always does here.
    rendered = {
        name: value for name, value in variables.items() if name not in (*_CALL, "max_length", "restore_suffix")
    }
    for name, value in rendered.items():
        if not (value is None or isinstance(value, (bool, int, float, str))) or not name.isidentifier():
            raise CheckpointError(
                f"{settings.file}: processing_kwargs.chat_template.{name} is {short(value)}; a variable of the chat "
                "template must be a text, a number or true or false"
            )
    return Template.chat("flat" if form == "flat" else "structured" if form == "structured" else "auto", rendered)


def _check_output(settings: JsonObject, modality: JsonObject, task: str) -> None:
    """Refuse another method or output of the transformers model than those that are read."""
    method, output = modality.of("method", str, "forward"), modality.get("method_output_name")
    expected = _OUTPUTS.get(task)
    if method != "forward" or output not in (None, expected, [expected]):
        raise CheckpointError(
            f"{settings.file}: modality_config reads {short(output)} of {short(method)}; for the task {task!r} only "
            f"{expected!r} of 'forward' is supported"
        )


def _refuse_unknown(settings: JsonObject, known: Iterable[str], part: str = "") -> None:
    """Refuse keys with a value that this reader does not know."""
    allowed = set(known)
    unknown = sorted(name for name, value in settings.items() if name not in allowed and value not in (None, {}, []))
    if unknown:
        raise CheckpointError(
            f"{settings.file}: {f'{part}.' if part else ''}{unknown[0]} is {short(settings[unknown[0]])}, a setting "
            "that is not supported; describe the model in a reranker.json of the folder with rerank_core.write_spec"
        )


def _lowers(directory: Path) -> bool:
    """Whether the tokenizer lower-cases texts itself."""
    file = directory / "tokenizer.json"
    # BERT's class follows this setting, whatever tokenizer.json says.
    if not file.is_file() or optional_json(directory / "tokenizer_config.json").get("do_lower_case") is False:
        return False
    pending, steps = [read_json(file).get("normalizer")], []
    while pending:
        step = pending.pop()
        if isinstance(step, dict):
            steps.append(step)
            pending.extend(step.get("normalizers") or [])
    return any(step.get("type") == "Lowercase" or step.get("lowercase") is True for step in steps)
