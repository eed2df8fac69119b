"""Settings that a checkpoint's ``config.json`` may not choose: code that computes, and files or models outside its
folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import read_json

__all__ = ["check_config", "with_safe_settings"]

# Settings that make transformers fetch other models or read other files.
_REFUSED = {
    "transformers_weights": "weights are read from model.safetensors or its shards",
    "backbone": "models around another model are not supported",
    "distributed_config": "a model runs on one device here",
}
# Methods computed by an installed package; others may download code from the hub.
_QUANTIZED = ("gptq", "awq", "bitsandbytes")


def check_config(file: Path) -> None:
    """Refuse settings that transformers would follow and that could read other files or run downloaded code.

    Raises:
        CheckpointError: names the setting.
    """
    if not file.is_file():
        return  # a missing config.json is reported when it is read
    for key, value in _settings(read_json(file)):
        if key in _REFUSED and value not in (None, {}, False):
            raise CheckpointError(f"{file}: {key} is {short(value)}; {_REFUSED[key]}")
        if key == "quantization_config" and isinstance(value, Mapping) and value.get("quant_method") not in _QUANTIZED:
            raise CheckpointError(
                f"{file}: quant_method is {short(value.get('quant_method'))}, which is not supported; give the "
                "checkpoint that is not quantized"
            )


def with_safe_settings(config: Any) -> Any:
    """The configuration, changed in place, with transformers' default implementations: a name in ``config.json`` may
    refer to a kernel on the hub, which is code that transformers downloads."""
    for name in ("_attn_implementation", "_experts_implementation"):
        setattr(config, name, None)  # applies to nested configurations too
    # Scorers request the outputs that they read.
    config.return_dict, config.output_attentions, config.output_hidden_states = True, False, False
    return config


def _settings(values: Any) -> Iterator[tuple[str, Any]]:
    """All keys and values, nested objects included."""
    pending = [values]
    while pending:
        value = pending.pop()
        if isinstance(value, Mapping):
            yield from value.items()
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
