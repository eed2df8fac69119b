"""The torch backend: `build` a scorer for a spec, or `scorer_of` a module that is already there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rerank_core.backends.checkpoints import locate
from rerank_core.backends.tokens import TextTokenizer
from rerank_core.backends.torch import loading, packing
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.classifier import ClassifierScorer
from rerank_core.backends.torch.late_interaction import LateInteractionScorer
from rerank_core.errors import InputError
from rerank_core.options import Options
from rerank_core.spec import ModelSpec

if TYPE_CHECKING:
    import torch

__all__ = ["build", "scorer_of"]

_SCORERS: dict[str, type[TorchScorer]] = {"classifier": ClassifierScorer, "maxsim": LateInteractionScorer}


def build(spec: ModelSpec, options: Options) -> TorchScorer:
    """Load a spec's checkpoint and make its scorer.

    Raises:
        CheckpointError: missing, wrong or incomplete files; a head that was never trained.
        InputError: a device that is not there.
    """
    directory = locate(spec, options)
    kind = _kind(spec)
    int8 = options.dtype == "int8"
    dtype = "float32" if int8 else options.dtype
    module = loading.load_module(directory, kind, device=options.device, dtype=dtype)
    tokenizer = TextTokenizer.from_directory(directory, parse_special_tokens=options.parse_special_tokens)
    return _SCORERS[kind](module, tokenizer, spec, pack=True, int8=int8)


def scorer_of(module: torch.nn.Module, tokenizer: Any, spec: ModelSpec) -> TorchScorer:
    """The scorer of a live module, on the device and in the dtype it has: how trainers evaluate through the
    serving pipeline.

    Args:
        module: a transformers model of the class the head needs. Its attention implementation is left as it is; rows
            are packed where that is ``packing.NAME``.
        tokenizer: a transformers tokenizer, a ``tokenizers.Tokenizer`` (copied) or a `TextTokenizer`.
    """
    if not isinstance(tokenizer, TextTokenizer):
        raw = getattr(tokenizer, "backend_tokenizer", tokenizer)
        tokenizer = TextTokenizer(type(raw).from_str(raw.to_str()))
    pack = getattr(module.config, "_attn_implementation", None) == packing.NAME
    return _SCORERS[_kind(spec)](module, tokenizer, spec, pack=pack)


def _kind(spec: ModelSpec) -> str:
    if spec.head is None:
        raise InputError(f"model {spec.name!r} has no head, so the torch backend cannot score with it")
    return spec.head.kind
