"""`DenseDecoder`: a decoder with layers beside it that make the score from its last token (`Head.dense`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.decoder.paired import PairedDecoder
from rerank_core.backends.torch.execution import Execution
from rerank_core.spec import ModelSpec

__all__ = ["DenseDecoder", "is_decoder"]


@dataclass(frozen=True)
class DenseHead:
    """Layers in float32 from the hidden state of the last token to one score.

    Attributes:
        stack: gives ``[rows, 1]`` for ``[rows, width]``.
    """

    layers: tuple[int, ...]
    stack: Any

    def scores(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        with torch.inference_mode():
            scores: torch.Tensor = self.stack(hidden.float())[:, 0]
        return scores

    def name(self, layer: int) -> str:
        return "score"


class DenseDecoder(PairedDecoder):
    """Rows that share a prefix, as a causal model's; the score comes from layers beside the decoder.

    Args:
        stack: the layers; see `load_score_layers`.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        stack: torch.nn.Module,
        execution: Execution,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        config: Any = module.config
        head = DenseHead((config.num_hidden_layers,), stack)
        super().__init__(module, tokenizer, spec, score_head=head, execution=execution, options=options)


def is_decoder(module: Any) -> bool:
    """Whether a base model is a causal decoder with a list of layers, as transformers builds Llama, Qwen, Gemma and
    others."""
    return isinstance(getattr(module, "layers", None), torch.nn.ModuleList) and (
        getattr(module.config, "model_type", None) in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    )
