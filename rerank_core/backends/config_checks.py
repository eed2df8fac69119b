"""Checks the sizes in ``config.json`` against the weights in the folder before a model is built.

A config.json with 100,000 layers takes minutes to build, one with a vocabulary of 10**12 exhausts the memory, however
small the weights are. No tensor is read: the headers of safetensors files list names and shapes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from rerank_core.backends.gguf.folder import gguf_tensors
from rerank_core.errors import CheckpointError
from rerank_core.spec.untrusted_files import JsonObject, read_json, reading, regular_file

__all__ = ["check_files", "check_settings", "check_sizes", "shapes_of", "with_nested"]

# Extensions of the files that transformers, peft, tokenizers or rerank-core open.
_OPENED = (".json", ".jinja", ".safetensors", ".txt", ".model", ".metadata", ".pt", ".bin")

_DEPTHS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "encoder_layers", "decoder_layers",
           "num_encoder_layers", "num_decoder_layers")  # fmt: skip
_VOCABULARIES = ("vocab_size",)
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
_SIZES = (
    *_VOCABULARIES, *_WIDTHS, "embedding_size", "intermediate_size", "d_ff", "n_inner", "ffn_dim", "encoder_ffn_dim",
    "decoder_ffn_dim", "moe_intermediate_size", "num_attention_heads", "n_head", "num_heads", "num_key_value_heads",
    "head_dim", "d_kv", "num_labels", "num_experts", "num_local_experts", "n_routed_experts",
)  # fmt: skip
_COUNTS = (*_SIZES, *_DEPTHS, "max_position_embeddings", "n_positions")
_NUMBERS = (
    "logits_scaling", "final_logit_softcapping", "attn_logit_softcapping", "embedding_multiplier",
    "residual_multiplier", "attention_multiplier", "rope_theta", "layer_norm_eps", "rms_norm_eps", "norm_eps",
)  # fmt: skip
_INTEGERS = ("sliding_window", "local_attention", "type_vocab_size", "pad_token_id", "max_relative_positions")
_SWITCHES = ("tie_word_embeddings", "return_dict", "output_attentions", "output_hidden_states", "use_cache")

_NUMBERED = re.compile(r"(?:^|\.)(?:layers?|h|block|blocks)\.(\d+)\.")
_LONGEST_HEADER = 100_000_000  # the limit of safetensors
# Eight 4-bit weights are packed into one integer, and a matrix may be stored in parts: a factor for both.
_SLACK = 16
# More layers than any known model, for weights whose names do not show a layer.
_DEEPEST = 2_000
_LARGEST_INTEGER = 2**40


def check_files(directory: Path) -> None:
    """Refuse a folder in which a directory, device or pipe has the name of a file.

    Raises:
        CheckpointError: names the path.
    """
    with reading(directory):
        for path in sorted(directory.iterdir()):
            if path.suffix in _OPENED:
                regular_file(path)


def check_settings(directory: Path) -> None:
    """Refuse impossible values in ``config.json``; a folder without one passes.

    Raises:
        CheckpointError: names the file and the setting.
    """
    check_files(directory)
    if (directory / "config.json").is_file():
        for settings in with_nested(read_json(directory / "config.json")):
            _check_types(settings)


def check_sizes(directory: Path) -> None:
    """Refuse a ``config.json`` with more layers or larger sizes than the weights in the folder.

    Raises:
        CheckpointError: names the file and the setting.
    """
    check_settings(directory)
    config = read_json(directory / "config.json")
    shapes = shapes_of(directory)
    pickled = sum(path.stat().st_size for path in directory.glob("pytorch_model*.bin"))
    for settings in with_nested(config):
        if shapes or pickled:
            _check_sizes(settings, shapes, sum(map(math.prod, shapes.values())) or pickled)


def with_nested(config: JsonObject) -> Iterator[JsonObject]:
    """The settings of a model and of nested models (``text_config``; T5Gemma's ``encoder`` and ``decoder``)."""
    yield config
    for name, value in config.items():
        nested = name in ("encoder", "decoder") or (name.endswith("_config") and name != "quantization_config")
        if nested and isinstance(value, dict):
            yield JsonObject(value, config.file)


def _check_types(settings: JsonObject) -> None:
    for name in _COUNTS:
        if name in settings and settings.of(name, int, 1) < 1:
            raise settings.wrong(name, "it must be at least 1")
    for names, kind in ((_NUMBERS, float), (_INTEGERS, int), (_SWITCHES, bool)):
        for name in names:
            settings.of(name, kind, kind())
    for name, value in settings.items():
        if type(value) is int and abs(value) > _LARGEST_INTEGER:
            raise settings.wrong(name, "no setting of a model is this large")
    for name in ("architectures", "layer_types"):
        settings.texts(name)


def _check_sizes(settings: JsonObject, shapes: Mapping[str, tuple[int, ...]], held: int) -> None:
    """Compare sizes with tensors: each size is a side of a tensor, and each matrix of two sizes fits in the weights."""
    last = max((int(match[1]) for name in shapes if (match := _NUMBERED.search(name))), default=None)
    for name in _DEPTHS:
        depth = settings.of(name, int, 1)
        if last is not None and depth > last + 1:
            example = next(key for key in shapes if (match := _NUMBERED.search(key)) and int(match[1]) == last)
            missing = _NUMBERED.sub(lambda match: match[0].replace(str(last), str(last + 1)), example, count=1)
            raise settings.wrong(
                name, f"the weights have {last + 1} layers, and {missing!r} is missing. It would be random"
            )
        if depth > _DEEPEST:
            raise settings.wrong(name, f"models of more than {_DEEPEST} layers are not loaded")
    largest = max((size for shape in shapes.values() for size in shape), default=held) * _SLACK
    for name in (*_SIZES, "type_vocab_size"):
        if settings.of(name, int, 1) > largest:
            raise settings.wrong(name, f"the largest side of a tensor in the weights is {largest // _SLACK}")
    width = max(settings.of(name, int, 1) for name in _WIDTHS)
    narrow = settings.of("embedding_size", int, width)
    tables = any("position" in name and "embed" in name for name in shapes) or not shapes
    for names, other_side in (
        ((*_VOCABULARIES, *(("max_position_embeddings", "n_positions") if tables else ())), narrow),
        (tuple(name for name in _SIZES if name not in (*_VOCABULARIES, "embedding_size")), width),
    ):
        for name in names:
            if settings.of(name, int, 1) * other_side > held * _SLACK:
                raise settings.wrong(
                    name, f"a matrix of {settings[name]} by {other_side} is larger than all weights in the folder"
                )


def shapes_of(directory: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors in a folder's safetensors files or of its GGUF file, by name, read from the headers.

    Raises:
        CheckpointError: a file that is not safetensors.
    """
    source = gguf_tensors(directory)
    if source is not None:
        return {name: stored.shape for name, stored in source.tensors.items()}
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(directory.glob("*.safetensors")):
        size = regular_file(path).stat().st_size
        with reading(path), path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_LONGEST_HEADER, size - 8):
                raise CheckpointError(f"{path} cannot be loaded: it is truncated, or not a safetensors file")
            header = json.loads(file.read(length))
            for name, tensor in header.items():
                if name != "__metadata__":
                    shapes[name] = tuple(int(side) for side in tensor["shape"])
    return shapes
