"""The tensors of a GGUF file by transformers' names, and what llama.cpp's converter did to each.

The converter reorders the rows of Llama's queries and keys, adds 1 to the norms of Gemma, cuts XLM-R's position table,
and stores the output rows of a causal reranker's two labels in place of its whole output layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from rerank_core.backends.gguf.config import position_offset
from rerank_core.errors import CheckpointError
from rerank_core.spec.gguf.header import GgufHeader, TensorInfo
from rerank_core.spec.gguf.rank_spec import HEAD, labels_of

__all__ = ["StoredTensor", "tensors_of_header"]

_LAYER = re.compile(r"blk\.(\d+)\.(.+)\.(weight|bias)")
_OUTPUT = "lm_head.weight"
# Read into the config, not into a weight.
_ROPE = "rope_freqs.weight"

_DECODER = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}  # fmt: skip
_PRE_NORM = {**_DECODER, "ffn_norm": "post_attention_layernorm"}
_FOUR_NORMS = {
    **_DECODER, "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_ENCODER = {
    "attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
}  # fmt: skip
_DECODER_ENDS = {
    "token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
    "output.weight": _OUTPUT,
}  # fmt: skip
_ENCODER_ENDS = {
    "token_embd.weight": "embeddings.word_embeddings.weight",
    "token_types.weight": "embeddings.token_type_embeddings.weight",
    "position_embd.weight": "embeddings.position_embeddings.weight",
    "token_embd_norm.weight": "embeddings.LayerNorm.weight", "token_embd_norm.bias": "embeddings.LayerNorm.bias",
}  # fmt: skip
# cls.weight, cls.output.weight and their biases.
_HEADS = {
    "bert": ("bert.pooler.dense", "classifier"),
    "xlm-roberta": ("classifier.dense", "classifier.out_proj"),
}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a checkpoint, and how it is made from the one in the file.

    Attributes:
        info: its place in the file.
        shape: of the tensor of the checkpoint.
        heads: undo the order of Llama's queries or keys, of so many heads; 0 leaves the rows as they are.
        shift: a number to add to each weight.
        padding: rows of zeros before the file's rows; no token reads them.
        only: the file's rows stand for these rows of the tensor, and the others are missing; None for all rows.
    """

    info: TensorInfo
    shape: tuple[int, ...]
    heads: int = 0
    shift: float = 0.0
    padding: int = 0
    only: tuple[int, ...] | None = None


def tensors_of_header(header: GgufHeader, model_type: str, *, queries: int, keys: int) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint by transformers' names.

    Args:
        model_type: transformers' name of the architecture.
        queries, keys: the number of heads of queries, and of keys and values.

    Raises:
        CheckpointError: a tensor that the architecture does not have, or one of another shape.
    """
    encoder = header.architecture == "bert"
    name_of = _encoder_name(model_type) if encoder else _decoder_name(header.architecture)
    tensors: dict[str, StoredTensor] = {}
    for stored, info in header.tensors.items():
        if stored == _ROPE or (stored == HEAD and not encoder):
            continue
        name = name_of(stored)
        if name is None:
            raise CheckpointError(
                f"{header.file}: the tensor {stored!r} belongs to no weight of a {model_type} model; without it the "
                "scores would be another model's. Give the model's safetensors folder"
            )
        shift, heads, padding = 0.0, 0, 0
        if header.architecture.startswith("gemma") and name.endswith("norm.weight"):
            shift = -1.0
        if header.architecture == "llama" and ".attn_q." in stored:
            heads = queries
        if header.architecture == "llama" and ".attn_k." in stored:
            heads = keys
        if heads and info.shape[0] % (2 * heads):
            raise CheckpointError(f"{header.file}: {stored!r} of {info.shape[0]} rows does not have {heads} heads")
        if stored == "position_embd.weight":
            padding = position_offset(header)
        shape = (info.shape[0] + padding, *info.shape[1:])
        tensors[name] = StoredTensor(info, shape, heads, shift, padding)
    if HEAD in header.tensors and not encoder:
        tensors[_OUTPUT] = _label_rows(header)
    return tensors


def _label_rows(header: GgufHeader) -> StoredTensor:
    """The output layer of a causal reranker, of which the file has the rows of two labels."""
    tokens = header.metadata.texts("tokenizer.ggml.tokens") or ()
    labels = labels_of(header)
    missing = [label for label in labels if label not in tokens]
    if missing or labels[0] == labels[1]:
        raise CheckpointError(f"{header.file}: the labels {labels!r} are not two tokens of its vocabulary")
    info = header.tensors[HEAD]
    return StoredTensor(info, (len(tokens), *info.shape[1:]), only=tuple(tokens.index(label) for label in labels))


def _decoder_name(architecture: str) -> Callable[[str], str | None]:
    parts = _FOUR_NORMS if architecture in ("gemma2", "gemma3") else _PRE_NORM

    def name(stored: str) -> str | None:
        match = _LAYER.fullmatch(stored)
        if match is None:
            return _DECODER_ENDS.get(stored)
        part = parts.get(match[2])
        return None if part is None else f"model.layers.{match[1]}.{part}.{match[3]}"

    return name


def _encoder_name(model_type: str) -> Callable[[str], str | None]:
    prefix = "roberta" if model_type == "xlm-roberta" else "bert"
    dense, projection = _HEADS[model_type]
    heads = {f"cls.{end}": f"{dense}.{end}" for end in ("weight", "bias")}
    heads.update({f"cls.output.{end}": f"{projection}.{end}" for end in ("weight", "bias")})

    def name(stored: str) -> str | None:
        match = _LAYER.fullmatch(stored)
        if match is not None:
            part = _ENCODER.get(match[2])
            return None if part is None else f"{prefix}.encoder.layer.{match[1]}.{part}.{match[3]}"
        end = _ENCODER_ENDS.get(stored)
        return heads.get(stored) if end is None else f"{prefix}.{end}"

    return name
