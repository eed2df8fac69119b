"""Cross-encoders: a sequence classifier reads query and document together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from rerank_core.backends.frames import stacked_frame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.cross_encoder.joint_scorer import JointScorer
from rerank_core.backends.torch.encoder.last_layer import gather_pooled, last_layer_for_cls_only
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.label_score import check_labels, label_score
from rerank_core.errors import CheckpointError, InputError
from rerank_core.scorer import Batch
from rerank_core.spec import ModelSpec
from rerank_core.spec.head import Pooling

__all__ = ["ClassifierScorer"]


class ClassifierScorer(JointScorer):
    """Scores a row by its single logit, or by the log-odds of one label against all others; in float32.

    Args:
        label: the number of the label that is the score, where there are several; see `labels.label_index`.
        options: values of the model's options that are named in the template.

    Raises:
        CheckpointError: a module whose labels are not those of the spec's head.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        label: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        check_labels(module, spec)
        self._label = label
        if hasattr(module, "score") and getattr(module.config, "pad_token_id", None) is None:
            raise CheckpointError(
                f"model {spec.name!r}: a decoder classifier needs pad_token_id to find the last token of a row, and "
                "config.json has none; set it to the id of the tokenizer's padding token"
            )
        # ModernBERT and EuroBERT; every other classifier reads the first token, or fails the trial of packed rows.
        self._pooling: Pooling = "mean" if getattr(module.config, "classifier_pooling", None) == "mean" else "cls"
        if execution.pack:
            gather_pooled(module, self._pooling)
        super().__init__(module, tokenizer, spec, execution=execution, options=options)

    def stacked(self) -> ClassifierScorer:
        """A copy of this scorer with BCEmbedding's layout (`stacked_frame`).

        Raises:
            InputError: a template of literal pieces, which BCEmbedding does not have.
        """
        if self.spec.template.wrap != "pair":
            raise InputError(f"model {self.spec.name!r}: BCEmbedding's layout needs Template.pair(); leave compat out")
        other = copy.copy(self)
        other._frame = stacked_frame(self.tokenizer, typed=self.typed)
        return other

    def skip_unread(self) -> Callable[[], None] | None:
        return last_layer_for_cls_only(self.module, live=self.execution.live) if self._pooling == "cls" else None

    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        return {"scores": self._scores(output)}

    def _scores(self, output: Any) -> torch.Tensor:
        # `gather_pooled` gives a row's vector an axis of one token, which a head that pools by itself may move.
        logits = output.logits
        return label_score(logits.reshape(-1, logits.shape[-1]), self._label)

    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> torch.Tensor:
        """Scores ``[len(rows)]``."""
        return self._scores(self.outputs(rows, types, packed=packed))
