"""Writes checkpoints as GGUF files, as llama.cpp's converter does: its names, orders of rows and shifts.

The names of tensors come from the package ``gguf``, and tensors are written and quantized with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

from helpers.gguf.tokenizers import tokenizer_metadata

__all__ = [
    "QWEN3_PROMPT",
    "rounded_copy",
    "write_gguf",
]

Kind = gguf.GGMLQuantizationType
_ARCHITECTURES = {"gemma3_text": "gemma3", "mistral": "llama", "xlm-roberta": "bert"}
_NUMBERS = {
    "context_length": "max_position_embeddings", "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers", "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads", "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim", "attention.value_length": "head_dim",
    "attention.sliding_window": "sliding_window",
}  # fmt: skip
_FLOATS = {
    "attention.layer_norm_rms_epsilon": "rms_norm_eps", "attention.layer_norm_epsilon": "layer_norm_eps",
    "attn_logit_softcapping": "attn_logit_softcapping", "final_logit_softcapping": "final_logit_softcapping",
}  # fmt: skip
QWEN3_PROMPT = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {query}\n"
    "<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


def write_gguf(
    folder: Path,
    file: Path,
    kind: str = "F32",
    *,
    rank: bool = False,
    prompt: str = QWEN3_PROMPT,
    labels: Sequence[str] = ("yes", "no"),
    tokenizer: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint of a folder as a GGUF file.

    Args:
        kind: ggml's type of the matrices; other tensors are F32.
        rank: write a score head: a classifier's, or the output rows of two labels of a causal model.
        prompt: the chat template called ``rerank`` of a causal reranker.
        tokenizer: the tokenizer's metadata; by default `tokenizer_metadata` of the folder.
        metadata: values that replace the others; None leaves a key out.
    """
    config = json.loads((folder / "config.json").read_text())
    model_type = config["model_type"]
    architecture = _ARCHITECTURES.get(model_type, model_type)
    values: dict[str, Any] = {"general.alignment": np.uint32(32)}
    for key, name in _NUMBERS.items():
        # llama.cpp's converter writes no window for Llama's architecture, Mistral included.
        if config.get(name) is not None and not (name == "sliding_window" and architecture in ("llama", "qwen2")):
            values[f"{architecture}.{key}"] = int(config[name])
    for key, name in _FLOATS.items():
        if config.get(name) is not None:
            values[f"{architecture}.{key}"] = float(config[name])
    values.update(_positions(config, architecture))
    if architecture == "llama":
        values["llama.rope.dimension_count"] = int(config["head_dim"])
    values.update(tokenizer_metadata(folder, architecture) if tokenizer is None else tokenizer)
    tensors = dict(_tensors(folder, config, architecture, values))
    if rank:
        values[f"{architecture}.pooling_type"] = 4
        if architecture != "bert":
            values[f"{architecture}.classifier.output_labels"] = list(labels)
            values["tokenizer.chat_templates"] = ["rerank"]
            values["tokenizer.chat_template.rerank"] = prompt
            rows = [values["tokenizer.ggml.tokens"].index(label) for label in labels]
            tensors["cls.output.weight"] = tensors.pop("output.weight", tensors["token_embd.weight"])[rows]
    values.update(metadata or {})
    writer = gguf.GGUFWriter(file, architecture)
    for key, value in values.items():
        _add(writer, key, value)
    for name, tensor in tensors.items():
        chosen = Kind[kind] if tensor.ndim == 2 and _matrix(name) else Kind.F32
        if tensor.shape[-1] % gguf.GGML_QUANT_SIZES[chosen][0]:
            chosen = Kind.F32
        writer.add_tensor(name, gguf.quantize(tensor, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def rounded_copy(folder: Path, target: Path, kind: str) -> Path:
    """A copy of a checkpoint whose matrices hold what a type of ggml keeps of them."""
    target.mkdir()
    for file in folder.iterdir():
        if file.suffix == ".json":
            (target / file.name).write_bytes(file.read_bytes())
    tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        values = tensor.astype(np.float32)
        if values.ndim == 2 and values.shape[-1] % gguf.GGML_QUANT_SIZES[Kind[kind]][0] == 0:
            values = gguf.dequantize(gguf.quantize(values, Kind[kind]), Kind[kind]).reshape(values.shape)
        tensors[name] = np.ascontiguousarray(values, dtype=np.float32)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def _matrix(name: str) -> bool:
    return not name.startswith(("position_embd", "token_types"))


def _positions(config: dict[str, Any], architecture: str) -> Iterator[tuple[str, Any]]:
    rope = config.get("rope_parameters") or {}
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    if "rope_theta" in rope:
        yield f"{architecture}.rope.freq_base", float(rope["rope_theta"])
    if local is not None and local["rope_theta"] != 10_000.0:
        yield f"{architecture}.rope.freq_base_swa", float(local["rope_theta"])
    if rope.get("rope_type") in ("linear", "yarn"):
        yield f"{architecture}.rope.scaling.type", rope["rope_type"]
        yield f"{architecture}.rope.scaling.factor", float(rope["factor"])
    if rope.get("rope_type") == "yarn":
        yield f"{architecture}.rope.scaling.original_context_length", rope["original_max_position_embeddings"]


def _tensors(
    folder: Path, config: dict[str, Any], architecture: str, values: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(numbers[architecture], config["num_hidden_layers"])
    for saved, tensor in load_file(folder / "model.safetensors").items():
        name = saved.removeprefix("roberta.").removeprefix("bert.")
        if name.endswith("position_ids"):
            continue
        # weights.md: cls is the dense layer and cls.output the projection, for BERT as for XLM-R.
        name = name.replace("pooler.dense", "classifier.dense")
        if name in ("classifier.weight", "classifier.bias"):
            name = name.replace("classifier", "classifier.out_proj")
        stem, _, end = name.rpartition(".")
        new = names.get_name(stem)
        assert new is not None, name
        data = tensor.astype(np.float32)
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            data = data + np.float32(1)
        if architecture == "llama" and (".q_proj" in name or ".k_proj" in name):
            heads = config["num_attention_heads" if ".q_proj" in name else "num_key_value_heads"]
            data = data.reshape(heads, 2, data.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(data.shape)
        if config["model_type"] == "xlm-roberta" and "position_embeddings" in name:
            data = data[config["pad_token_id"] + 1 :]
            values["bert.context_length"] = len(data)
        yield f"{new}.{end}", np.ascontiguousarray(data)
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type") == "llama3":
        yield "rope_freqs.weight", _llama3_factors(config["head_dim"], rope)


def _llama3_factors(head: int, rope: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Llama 3.1's factors: waves longer than the original context are slowed, those in between by degrees."""
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    original = rope["original_max_position_embeddings"]
    factors = []
    for number in range(0, head, 2):
        wave = 2 * np.pi * rope["rope_theta"] ** (number / head)
        smooth = (original / wave - low) / (high - low)
        inner = 1 / ((1 - smooth) / factor + smooth)
        factors.append(1.0 if wave < original / high else factor if wave > original / low else inner)
    return np.array(factors, dtype=np.float32)


def _add(writer: Any, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, np.uint32):
        writer.add_uint32(key, int(value))
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)


# ---------------------------------------------------------------------- tokenizers
