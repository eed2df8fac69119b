"""`EncoderDecoderScorer`: the encoder reads query and document, the decoder takes one step, and labels' logits score.

monoT5 (Nogueira et al., *Document Ranking with a Pretrained Sequence-to-Sequence Model*, 2020) compares the logits of
two words, RankT5 (Zhuang et al., 2023) takes the logit of one token. The forward pass is that of the model's class; its
output layer is replaced by one with the labels' rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from rerank_core.backends.literal_frame import LiteralFrame
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention.one_step_packing import OneStepPacking
from rerank_core.backends.torch.cross_encoder.joint_scorer import JointScorer
from rerank_core.backends.torch.decoder.heads import label_ids
from rerank_core.backends.torch.decoder.output_layer import LabelRows, path_of, with_part
from rerank_core.backends.torch.encoder_decoder.relative_bias import bias_per_row, has_relative_bias
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.label_score import label_score
from rerank_core.backends.torch.load_weights import max_positions
from rerank_core.errors import CheckpointError, InputError, short
from rerank_core.scorer import Batch
from rerank_core.spec import ModelSpec

__all__ = ["EncoderDecoderScorer"]


class EncoderDecoderScorer(JointScorer):
    """Scores a row by the logit of one label token at the first decoder step, or by the log-odds of two.

    Args:
        module: a conditional-generation model of transformers with its output layer.
        options: values of the options that the template names.

    Raises:
        CheckpointError: no output layer, no first decoder token, or labels that are not single tokens.
        InputError: a head or template that is not an encoder-decoder's.
    """

    def __init__(
        self,
        module: Any,
        tokenizer: TextTokenizer,
        spec: ModelSpec,
        *,
        execution: Execution,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if spec.head is None or spec.head.kind != "last_token":
            raise InputError(f"model {spec.name!r}: an encoder-decoder takes Head.last_token(...), not {spec.head!r}")
        if spec.template.wrap != "none":
            raise InputError(f"model {spec.name!r}: an encoder-decoder takes Template(...), not {spec.template!r}")
        layer = module.get_output_embeddings()
        if layer is None:
            raise CheckpointError(f"model {spec.name!r}: a {type(module).__name__} has no output layer")
        self._labels = label_ids(spec.head, tokenizer, spec.name, rows=layer.weight.shape[0])
        self._start = _start_token(module, spec.name)
        self._biased = has_relative_bias(module)
        # For a live module the output layer is read at each call, so that scores follow training.
        rows = (LabelRows if execution.live else LabelRows.copied)(layer, self._labels)
        self._forward = _with_bias_of(with_part(module, path_of(module, layer), rows), self._labels)
        if execution.live:
            execution = replace(execution, pack=execution.pack and not self._biased)
        else:
            module = self._forward
            if execution.pack and self._biased:
                bias_per_row(module)
        encoder_config = getattr(module.config, "encoder", None)
        window = getattr(encoder_config, "sliding_window", None)
        # transformers' mask for both directions lets tokens attend that are exactly this number of positions away.
        self._window = None if window is None else window + 1
        super().__init__(module, tokenizer, spec, execution=execution, options=options)
        self.max_positions = max_positions(module.get_encoder())

    def packing_variants(self) -> list[dict[str, Any]]:
        # The variable-length kernel takes no bias. Without it, a GPU would attend to rows of each length in turn, so
        # that padding rows of similar lengths is the better layout there.
        return [] if self._biased and self.device.type == "cuda" else super().packing_variants()

    @property
    def parts(self) -> Mapping[str, int]:
        assert isinstance(self._frame, LiteralFrame)  # the template is one of literal pieces
        return self._frame.lengths

    # ------------------------------------------------------------------ scores
    def read(
        self, rows: Sequence[Sequence[int]], types: Sequence[Sequence[int] | None], *, packed: bool
    ) -> torch.Tensor:
        """Scores ``[len(rows)]`` in float32."""
        inputs = self.module_inputs(rows, types, packed=packed)
        with self.computing():
            return label_score(self._forward(**inputs).logits.flatten(0, 1), 0)

    def module_inputs(
        self,
        rows: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        *,
        packed: bool,
        attended: Sequence[int | None] = (),
    ) -> dict[str, Any]:
        """Inputs of the encoder for rows, and of the decoder for one token a row: ``[1, rows]`` if packed, else
        ``[rows, 1]``."""
        inputs = super().module_inputs(rows, types, packed=packed, attended=attended)
        shape = (1, len(rows)) if packed else (len(rows), 1)
        ids = torch.full(shape, self._start, device=self.device)
        inputs |= {"decoder_input_ids": ids, "decoder_attention_mask": torch.ones_like(ids), "use_cache": False}
        if packed:
            plain = inputs["packing"]
            inputs["packing"] = OneStepPacking(
                plain.lengths, plain.groups, plain.cu_seqlens, plain.row_starts, plain.allow_varlen, self._window
            )
            # transformers passes a 4-D mask on unchanged; the attention function ignores it.
            inputs["decoder_attention_mask"] = inputs["attention_mask"]
            inputs["decoder_position_ids"] = torch.zeros_like(ids)
        return inputs

    # ------------------------------------------------------------------ training
    def parts_from(self, output: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """``scores`` from the output of a live module, whose logits are those of the whole vocabulary."""
        return {"scores": label_score(output.logits.flatten(0, 1)[:, list(self._labels)], 0)}


def _with_bias_of(module: Any, labels: Sequence[int]) -> Any:
    """The module with the labels' columns of the bias that BART adds to its logits; without one, unchanged."""
    bias = module._buffers.get("final_logits_bias")
    if bias is not None:
        module._buffers = {**module._buffers, "final_logits_bias": bias[:, list(labels)].float()}
    return module


def _start_token(module: Any, model: str) -> int:
    """The id of the token that the decoder reads first: ``decoder_start_token_id``, or for T5Gemma the decoder's
    ``bos_token_id``.

    Raises:
        CheckpointError: the configuration does not name it, or the decoder has no embedding for it.
    """
    candidates = (
        getattr(module.config, "decoder_start_token_id", None),
        getattr(getattr(module, "generation_config", None), "decoder_start_token_id", None),
        getattr(getattr(module.config, "decoder", None), "bos_token_id", None),
    )
    start = next((value for value in candidates if value is not None), None)
    if start is None:
        raise CheckpointError(
            f"model {model!r}: config.json has no decoder_start_token_id, the first token that the decoder reads; "
            "add it (0 for T5)"
        )
    rows = module.get_decoder().get_input_embeddings().num_embeddings
    if type(start) is not int or not 0 <= start < rows:
        raise CheckpointError(
            f"model {model!r}: decoder_start_token_id is {short(start)}; it must be a token id, 0 to {rows - 1}"
        )
    return start
