"""`run` and `last_tokens`: a decoder layer as one function around its linear layers, for all tokens of a packed batch,
or for those that are scored.

transformers computes an RMS norm in six operations, each of which reads and writes all hidden states, and the rotary
embedding of a tensor in five. Here a norm is one operation, which is a single kernel on a GPU, and a rotary embedding
is three. In float32 the norms are bit for bit those of transformers. torch's compiler makes fewer kernels of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from rerank_core.backends.torch.attention.attention_call import AttentionCall
from rerank_core.backends.torch.attention.causal_packing import CausalPacking

__all__ = ["FAMILIES", "last_tokens", "run"]

FAMILIES = frozenset({"gemma", "gemma2", "llama", "mistral", "qwen2", "qwen3"})
"""The ``model_type`` of decoders whose layers `run` computes. Others may do more in a layer than short rows show at
load, such as a scale that depends on the position."""

_PLAIN = frozenset({"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"})
_SHIFTED = frozenset({"GemmaRMSNorm", "Gemma2RMSNorm"})
"""Norms of transformers that multiply by the weight, and by one plus the weight."""


def run(
    layer: Any, hidden: torch.Tensor, rotary: Any, packing: CausalPacking, *, compiled: bool = False
) -> torch.Tensor:
    """Hidden states ``[1, total, width]`` after a layer.

    Args:
        rotary: cosine and sine ``[1, total, head width]`` of the tokens' positions.
        compiled: compute everything but the attention as ``torch.compile`` translates it.
    """
    projected, rest = _parts(compiled)
    query, key, value = projected(layer, hidden[0], rotary, None)
    heads_first = [part.transpose(0, 1)[None] for part in (query, key, value)]
    attended = packing.attend(heads_first[0], heads_first[1], heads_first[2], _call(layer))
    result: torch.Tensor = rest(layer, hidden[0], attended[0])
    return result[None]


def last_tokens(
    layer: Any, hidden: torch.Tensor, rotary: Any, packing: CausalPacking, *, compiled: bool = False
) -> torch.Tensor:
    """Hidden states ``[rows, width]`` of each row's last token after a layer, with keys and values of all tokens."""
    projected, rest = _parts(compiled)
    query, key, value = projected(layer, hidden[0], rotary, packing.last)
    attended = packing.attend_last(query, key.transpose(0, 1), value.transpose(0, 1), _call(layer))
    result: torch.Tensor = rest(layer, hidden[0, packing.last], attended)
    return result


@functools.cache
def _parts(compiled: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The parts of a layer before and after the attention. Compiled ones serve every layer and every number of tokens
    of a model: two translations each, because one token is a case of its own."""
    if not compiled:
        return _projected, _rest
    return torch.compile(_projected, dynamic=True, fullgraph=True), torch.compile(_rest, dynamic=True, fullgraph=True)


def _projected(layer: Any, hidden: torch.Tensor, rotary: Any, chosen: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
    """Queries of the chosen tokens, keys and values of all: ``[tokens, heads, head width]``."""
    attention = layer.self_attn
    normed = _normed(layer.input_layernorm, hidden)
    read = normed if chosen is None else normed[chosen]
    inputs = ((attention.q_proj, read), (attention.k_proj, normed), (attention.v_proj, normed))
    query, key, value = (product(x).unflatten(-1, (-1, attention.head_dim)) for product, x in inputs)
    if hasattr(attention, "q_norm"):
        query, key = _normed(attention.q_norm, query), _normed(attention.k_norm, key)
    cos, sin = (part[0, :, None] for part in rotary)
    key = _rotated(key, cos, sin)
    if chosen is not None:
        cos, sin = cos[chosen], sin[chosen]
    return _rotated(query, cos, sin), key, value


def _call(layer: Any) -> AttentionCall:
    attention = layer.self_attn
    sliding_window = getattr(attention, "sliding_window", getattr(attention.config, "sliding_window", None))
    return AttentionCall(attention.scaling, sliding_window, getattr(attention, "attn_logit_softcapping", None))


def _rest(layer: Any, residual: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """``[tokens, width]``: the output projection and the feed-forward block."""
    out = layer.self_attn.o_proj(attended.flatten(1))
    if hasattr(layer, "pre_feedforward_layernorm"):  # Gemma 2 also normalises the output of each block
        residual = residual + _normed(layer.post_attention_layernorm, out)
        out = layer.mlp(_normed(layer.pre_feedforward_layernorm, residual))
        return residual + _normed(layer.post_feedforward_layernorm, out)
    multiplier = getattr(layer, "residual_multiplier", 1.0)
    residual = _added(residual, out, multiplier)
    return _added(residual, layer.mlp(_normed(layer.post_attention_layernorm, residual)), multiplier)


def _added(residual: torch.Tensor, out: torch.Tensor, multiplier: float) -> torch.Tensor:
    return residual + (out if multiplier == 1.0 else out * multiplier)


def _normed(norm: Any, x: torch.Tensor) -> torch.Tensor:
    """An RMS norm (Zhang and Sennrich, 2019) in one operation, or the module's own."""
    kind = type(norm)
    known = kind.__module__.startswith("transformers.") and kind.__name__
    # Gemma adds one in float32; in half precision the sum would be rounded.
    if known not in _PLAIN and not (known in _SHIFTED and x.dtype == torch.float32):
        normed: torch.Tensor = norm(x)
        return normed
    weight = norm.weight if known in _PLAIN else 1.0 + norm.weight
    epsilon = norm.variance_epsilon if known in _PLAIN else norm.eps
    return torch.nn.functional.rms_norm(x, weight.shape, weight, epsilon)


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding in two halves, the layout of GPT-NeoX (Su et al., *RoFormer*, 2021)."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out
