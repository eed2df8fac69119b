"""`DenseScorer`: a score from layers beside the encoder, as in the modular cross-encoders of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention.row_pooling import pool_packed, pool_padded
from rerank_core.backends.torch.cross_encoder.joint_scorer import JointScorer
from rerank_core.backends.torch.encoder.last_layer import last_layer_for_cls_only
from rerank_core.backends.torch.execution import Execution
from rerank_core.errors import InputError
from rerank_core.spec import ModelSpec

__all__ = ["DenseScorer"]


class DenseScorer(JointScorer):
    """Pools the last hidden states of a row into one vector, from which a few layers make the score (`Head.dense`).

    Args:
        layers: from vectors ``[rows, width]`` in float32 to ``[rows, 1]``; see `load_score_layers`.

    Raises:
        InputError: another head, or no layers.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        layers: torch.nn.Module | None,
        execution: Execution,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if spec.head is None or spec.head.kind != "dense" or spec.head.pooling is None:
            raise InputError(f"model {spec.name!r}: this scorer takes Head.dense(), not {spec.head!r}")
        if layers is None:
            raise InputError(f"model {spec.name!r}: Head.dense() needs the layers that make the score; give project=")
        self._pooling = spec.head.pooling
        self._layers = layers
        super().__init__(module, tokenizer, spec, execution=execution, options=options)

    def skip_unread(self) -> Callable[[], None] | None:
        return last_layer_for_cls_only(self.module, live=self.execution.live) if self._pooling == "cls" else None

    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> torch.Tensor:
        """Scores ``[len(rows)]`` in float32."""
        hidden = self.outputs(rows, types, packed=packed).last_hidden_state
        lengths = [len(row) for row in rows]
        if not packed:
            pooled = pool_padded(hidden, lengths, self._pooling)
        elif hidden.shape[1] == sum(lengths):
            pooled = pool_packed(hidden[0], lengths, self._pooling)
        else:
            pooled = hidden[0]  # the last layer has computed first tokens only
        with torch.inference_mode():
            scores: torch.Tensor = self._layers(pooled.float())[:, 0]
        return scores
