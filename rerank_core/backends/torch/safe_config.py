"""What a checkpoint's ``config.json`` may not choose: the code that computes, and files or models beside its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rerank_core.errors import CheckpointError, short
from rerank_core.spec.untrusted_files import read_json

__all__ = ["check_config", "pinned"]

# Settings by which transformers fetches other models, or reads other files.
_REFUSED = {
    "transformers_weights": "weights are read from model.safetensors or its shards",
    "backbone": "models around another model are not supported",
    "distributed_config": "a model runs on one device here",
}
# What runs them is an installed package; that of others may be code of the hub, fetched on the way.
_QUANTIZED = ("gptq", "awq", "bitsandbytes")


def check_config(file: Path) -> None:
    """Refuse what would be followed and must not be.

    Raises:
        CheckpointError: names the setting.
    """
    if not file.is_file():
        return  # said with more words by whoever needs it
    for key, value in _settings(read_json(file)):
        if key in _REFUSED and value not in (None, {}, False):
            raise CheckpointError(f"{file}: {key} is {short(value)}; {_REFUSED[key]}")
        if key == "quantization_config" and isinstance(value, Mapping) and value.get("quant_method") not in _QUANTIZED:
            raise CheckpointError(
                f"{file}: quant_method is {short(value.get('quant_method'))}, which is not supported; give the "
                "checkpoint that is not quantized"
            )


def pinned(config: Any) -> Any:
    """A configuration that leaves the choice of the code that computes to transformers: a name in ``config.json`` may
    be one of the hub's kernels, which are code that is downloaded."""
    for name in ("_attn_implementation", "_experts_implementation"):
        setattr(config, name, None)  # for the models inside it too
    # Nor what a forward pass gives: the scorers ask for what they read.
    config.return_dict, config.output_attentions, config.output_hidden_states = True, False, False
    return config


def _settings(values: Any) -> Iterator[tuple[str, Any]]:
    """All keys, of the objects inside too."""
    waiting = [values]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield from one.items()
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
