"""The spec of a checkpoint directory, from its ``reranker.json`` or its ``config.json``.

Both files are untrusted data and never name code. The trainers write ``reranker.json``; a folder saved by transformers
has only ``config.json``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

from rerank_core.errors import CheckpointError, InputError, short
from rerank_core.spec.head import Head
from rerank_core.spec.hub_or_folder import file_path_of, model_name_of
from rerank_core.spec.model_spec import ModelSpec
from rerank_core.spec.template import Template
from rerank_core.spec.untrusted_files import optional_json, read_json, reading

__all__ = [
    "FILE_NAME",
    "SCHEMA_VERSION",
    "calibration_of",
    "differences",
    "has_spec",
    "inside",
    "max_length_of",
    "read_spec",
    "spec_of_directory",
    "write_spec",
]

FILE_NAME = "reranker.json"
SCHEMA_VERSION = 1

# Fields of a spec that a published folder may set. The others (scorer, checkpoint, sha256, revision, aliases, options)
# come from installed code or from the caller.
_FIELDS = (
    "name",
    "max_length",
    "max_query_length",
    "activation",
    "longdoc",
    "score_space",
    "description",
    "license",
)


def write_spec(spec: ModelSpec, directory: str | PathLike[str], *, base: str | None = None) -> Path:
    """Write ``reranker.json`` into a checkpoint directory and return its path.

    Args:
        base: ``plugin:model`` whose code scores this checkpoint; required if ``spec.scorer`` is set.

    Raises:
        InputError: the spec has its own scorer, or an option that its head does not bring, and ``base`` is missing.
    """
    if spec.scorer is not None and base is None:
        raise InputError(
            f"model {spec.name!r} is scored by {spec.scorer!r}, and {FILE_NAME} never names code; "
            "pass base='plugin:model', the installed model with this scorer"
        )
    if base is None:
        _check_options(spec)
    data: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
    data.update({key: getattr(spec, key) for key in _FIELDS})
    data["languages"] = list(spec.languages)
    if spec.calibrated:
        data["calibrated"] = dict(spec.calibrated)
    data["template"] = dataclasses.asdict(spec.template)
    data["head"] = dataclasses.asdict(spec.head) if spec.head else None
    data["base"] = base
    path = Path(file_path_of(directory, "directory")) / FILE_NAME
    try:
        path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"model {spec.name!r} holds half of a surrogate pair, which UTF-8 cannot encode: {error}"
        ) from error
    return path


def _check_options(spec: ModelSpec) -> None:
    """Refuse options that the file would lose: ``{NAME}`` in the template would be read as text."""
    brought = dataclasses.replace(spec, options=()).options
    for option in spec.options:
        if option not in brought:
            raise InputError(
                f"model {spec.name!r} has the option {option.name!r} with the default {short(option.default)}, and "
                f"{FILE_NAME} keeps no options. Pass base='plugin:model', an installed model with this option; or "
                "write the default into the template and give the spec without it (dataclasses.replace)"
            )


def read_spec(directory: str | PathLike[str], resolve_base: Callable[[str], ModelSpec]) -> ModelSpec:
    """The spec in a directory's ``reranker.json``; its checkpoint is the directory.

    Args:
        resolve_base: finds the installed spec of a ``plugin:model`` name. Where the file names a base, the fields that
            the file leaves out are the base's, scorer and options included.

    Raises:
        CheckpointError: the file is no JSON, or has an unknown ``schema_version``, an unknown key or an invalid value.
        UnknownModelError: the base is not installed.
    """
    path = Path(directory) / FILE_NAME
    data = read_json(path)
    version = data.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{path}: schema_version is {version!r}; this rerank-core reads {SCHEMA_VERSION}. "
            "Upgrade rerank-core, or write the file again with rerank_core.write_spec"
        )
    valid = {*_FIELDS, "languages", "template", "head", "base", "calibrated"}
    unknown = sorted(set(data) - valid)
    if unknown:
        raise CheckpointError(f"{path}: unknown keys {unknown!r}; valid ones are {sorted(valid)!r}")
    base = data.pop("base", None)
    if base is not None and not isinstance(base, str):
        raise CheckpointError(f"{path}: base is {short(base)}; it must be a string like 'plugin:model'")
    with reading(path, inputs=False):
        for name in ("name", "activation", "longdoc", "score_space", "description", "license"):
            data.of(name, str, "")
        if "template" in data:
            data["template"] = Template(**data.inner("template"))
        if "head" in data:
            data["head"] = Head(**data.inner("head")) if data["head"] else None
        if "languages" in data:
            data["languages"] = data.texts("languages") or ()
        data["calibrated"] = dict(data.inner("calibrated"))
        data["checkpoint"] = str(Path(directory).resolve())
        base_spec = None if base is None else resolve_base(base)
        # The fields that locate and verify the base's own files do not apply to this folder.
        reset: dict[str, Any] = {"aliases": (), "revision": None, "sha256": {}, "pickled": False}
        spec = ModelSpec(**data) if base_spec is None else dataclasses.replace(base_spec, **reset, **data)
    if pickled := sorted(_pickled(spec) - (set() if base_spec is None else _pickled(base_spec))):
        raise CheckpointError(
            f"{path}: the projection is in {pickled[0]!r}, a pickled file, which only the spec of an installed model "
            "may name; save its weight in safetensors and name that"
        )
    return spec


def _pickled(spec: ModelSpec) -> set[str]:
    """The pickled files from which a spec reads tensors."""
    vectors = spec.head.vectors if spec.head is not None else None
    return {name for name in (vectors.projection if vectors is not None else ()) if name.endswith(".pt")}


def spec_of_directory(directory: str | PathLike[str], resolve_base: Callable[[str], ModelSpec]) -> ModelSpec:
    """The spec of a checkpoint directory, from its ``reranker.json`` or else its ``config.json``.

    Raises:
        CheckpointError: both files are missing, or the architecture is no reranker.
    """
    path = Path(directory)
    if has_spec(path):
        return read_spec(directory, resolve_base)
    if not os.path.lexists(path / "config.json"):
        raise CheckpointError(
            f"{str(directory)!r} holds neither {FILE_NAME} nor config.json; a checkpoint directory has one of them"
        )
    # Imported here, since `import rerank_core` imports this file and needs none of them.
    from rerank_core.spec.folders.encoder_advice import reranker_json_of_encoder
    from rerank_core.spec.folders.encoder_decoder import encoder_decoder_advice
    from rerank_core.spec.folders.transformer_settings import layout_of
    from rerank_core.spec.labels import classifier_head

    config = read_json(path / "config.json")
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list):
        raise config.wrong("architectures", "it must be a list")
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        if (how := encoder_decoder_advice(path, config, max_length_of(path, config))) is not None:
            raise CheckpointError(how)
        advice = reranker_json_of_encoder(path, max_length_of(path, config))
        raise CheckpointError(
            f"{str(directory)!r} is no reranker that can be recognised: its architectures are {architectures!r}, not a "
            "sequence classifier. An embedding or base model has no score head. If a plugin knows this kind of "
            "model, load its name with checkpoint=<this directory>. An embedding model ranks by the cosine of its "
            f"vectors with this {FILE_NAME} in the folder:\n{advice}\n"
            'or by late interaction, with "head": {"kind": "maxsim", "reduce": "mean"} in it instead'
        )
    with reading(path, inputs=False):
        return ModelSpec(
            name=model_name_of(path),
            checkpoint=str(path.resolve()),
            template=layout_of(path),
            head=classifier_head(config),
            max_length=max_length_of(path, config),
            description=f"{architectures[0]} from a directory",
        )


def has_spec(directory: str | PathLike[str]) -> bool:
    """Whether a directory has a ``reranker.json``. A broken link counts, so that reading it raises an error."""
    return os.path.lexists(Path(directory) / FILE_NAME)


def calibration_of(folders: Iterable[Path]) -> dict[str, Any]:
    """``ModelSpec.calibrated`` of weights, by the first ``reranker.json`` in their folders that says it; else empty."""
    records = (dict(optional_json(folder / FILE_NAME).inner("calibrated")) for folder in folders if folder.is_dir())
    return next((record for record in records if record), {})


def max_length_of(path: Path, config: Mapping[str, Any]) -> int:
    """The maximum length of a checkpoint folder in tokens: the smaller of the tokenizer's ``model_max_length`` and the
    config's ``max_position_embeddings``, where they are real limits; else 512. The backend checks the positions.

    Args:
        config: the settings in the folder's ``config.json``.
    """
    tokenizer = optional_json(path / "tokenizer_config.json")
    values = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")]
    limits = [value for value in values if type(value) is int and 0 < value < 1_000_000]
    return min(limits, default=512)


def differences(spec: ModelSpec, directory: str | PathLike[str]) -> dict[str, tuple[Any, Any]]:
    """Fields in which a directory's ``reranker.json`` contradicts ``spec``: ``{field: (spec's, file's)}``.

    Empty where the directory has no such file. Only fields that change scores are compared.
    """
    if not has_spec(directory):
        return {}
    other = read_spec(directory, lambda name: spec)
    fields = ("template", "head", "max_length", "max_query_length", "activation", "longdoc", "raw_space")
    pairs = {name: (getattr(spec, name), getattr(other, name)) for name in fields}
    base = read_json(Path(directory) / FILE_NAME).get("base")
    if base is not None and base.rpartition(":")[2] not in spec.names:
        pairs["base"] = (spec.name, base)
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def inside(directory: Path, name: object, named_in: Path) -> Path:
    """The path of a file or folder that one of a checkpoint's files names.

    Args:
        named_in: the file that contains the name.

    Raises:
        CheckpointError: ``name`` is no file name, or leads out of the directory.
    """
    if isinstance(name, str) and name and "\0" not in name and ":" not in name:
        path = PurePosixPath(name.replace("\\", "/"))
        if not path.is_absolute() and ".." not in path.parts:
            return directory / path
    raise CheckpointError(f"{named_in} names {short(name)}; a checkpoint's files are inside its own folder")
