"""`configuration`: the transformers configuration of a folder; also of architectures that transformers has renamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.backends.config_checks import check_files
from rerank_core.backends.custom_code import check_model_code
from rerank_core.errors import CheckpointError
from rerank_core.spec.untrusted_files import JsonObject, read_json, reason

__all__ = ["configuration"]


def configuration(directory: Path) -> Any:
    """The transformers configuration of a directory.

    Raises:
        CheckpointError: it cannot be read, the installed transformers does not know the model type, or the model is
            code of its authors that transformers does not have.
    """
    import transformers
    from transformers import CONFIG_MAPPING, AutoConfig

    check_files(directory)
    settings = read_json(directory / "config.json")
    renamed = settings.get("model_type") == _NEW and "gte" in CONFIG_MAPPING
    types = {*CONFIG_MAPPING, _NEW} if renamed else CONFIG_MAPPING
    check_model_code(settings, types, lambda name: isinstance(getattr(transformers, name, None), type))
    try:
        if renamed:
            return CONFIG_MAPPING["gte"](**_gte(settings))
        return AutoConfig.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except CheckpointError:
        raise
    except Exception as error:  # transformers raises dozens of error types for invalid settings
        raise CheckpointError(f"{directory / 'config.json'} cannot be loaded: {reason(error)}") from error


# Alibaba's "NEW" encoders (mGTE: Zhang et al., 2024) are code on the hub, which transformers has as ``gte``, with the
# names of their weights. Only the settings differ.
_NEW = "new"
# Settings of that code whose other values transformers does not have.
_EXPECTED = {
    "position_embedding_type": "rope",
    "layer_norm_type": "layer_norm",
    "logn_attention_scale": False,
    "logn_attention_clip1": False,
    "pack_qkv": True,
}
# Its defaults, which a saved config.json leaves out, where transformers' gte has others.
_DEFAULTS = {"vocab_size": 30528, "max_position_embeddings": 2048, "pad_token_id": None}
# How that code computes, not what; and settings that are translated or set elsewhere.
_DROPPED = (
    *_EXPECTED, "auto_map", "model_type", "unpad_inputs", "use_memory_efficient_attention", "rope_theta",
    "rope_scaling", "transformers_version",
)  # fmt: skip


def _gte(settings: JsonObject) -> dict[str, Any]:
    """The settings of transformers' ``gte`` for a ``config.json`` of type ``new``.

    Raises:
        CheckpointError: a setting that transformers does not have.
    """
    for name, value in _EXPECTED.items():
        if settings.of(name, type(value), value) != value:
            raise settings.wrong(name, f"transformers' gte computes only {value!r}")
    width, heads = settings.of("hidden_size", int, 768), settings.of("num_attention_heads", int, 12)
    theta = settings.of("rope_theta", float, 10000.0)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if settings.get("rope_scaling") is not None:
        scaling = settings.inner("rope_scaling")
        factor = scaling.of("factor", float, 0.0)
        if scaling.get("type") != "ntk" or scaling.get("mixed_b") is not None or not 1 <= factor <= 1e6:
            raise settings.wrong("rope_scaling", "only the type 'ntk' without mixed_b is known, with a factor from 1")
        # Fixed NTK scaling (Su, https://kexue.fm/archives/9706): the base is multiplied by the factor, and every
        # frequency divided by factor ** (2 / width of a head), which is a linear scaling.
        linear = factor ** (2 * heads / width)
        rope = {"rope_type": "linear", "rope_theta": theta * factor, "factor": linear}
    kept = {name: value for name, value in settings.items() if name not in _DROPPED}
    return {**_DEFAULTS, **kept, "rope_parameters": rope}
