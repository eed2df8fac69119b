"""`encoder_scorer`: the scorer of an encoder or sequence classifier in memory, chosen by the spec's head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.cross_encoder.dense_scorer import DenseScorer
from rerank_core.backends.torch.decoder.classifier_scorer import DecoderClassifier
from rerank_core.backends.torch.decoder.dense_decoder import DenseDecoder, is_decoder
from rerank_core.backends.torch.decoder.heads import class_head, is_decoder_classifier
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.label_score import check_labels
from rerank_core.backends.torch.late_interaction.cosine_scorer import CosineScorer
from rerank_core.backends.torch.late_interaction.maxsim_scorer import LateInteractionScorer
from rerank_core.backends.torch.load_weights import move
from rerank_core.errors import InputError
from rerank_core.options import Options
from rerank_core.spec import ModelSpec
from rerank_core.spec.labels import label_index

__all__ = ["encoder_scorer", "scorer_with"]


def encoder_scorer(
    module: torch.nn.Module,
    tokenizer: TextTokenizer,
    spec: ModelSpec,
    options: Options,
    *,
    project: torch.nn.Module | None = None,
) -> TorchScorer:
    """The scorer of an encoder in memory: the second half of `build`, for a plugin with weights in a format of its own.

    Args:
        module: a transformers model of the class that the spec's head needs, in float32; it is moved to the options'
            device and dtype.
        project: the layers that the spec's ``projection`` (late interaction) or ``modules`` (``Head.cosine``,
            ``Head.dense``) name; by default, except for ``Head.dense``, the module's own submodule ``projection``.

    Raises:
        CheckpointError: module, tokenizer and template do not fit each other.
        InputError: a head that is not an encoder's, or ``dtype="int8"`` where it cannot be computed.
    """
    move(module, options.device, "float32" if options.dtype == "int8" else options.dtype)
    return scorer_with(module.eval(), tokenizer, spec, Execution.of(options), options.model, project)


def scorer_with(
    module: torch.nn.Module,
    tokenizer: TextTokenizer,
    spec: ModelSpec,
    execution: Execution,
    options: Mapping[str, Any],
    project: torch.nn.Module | None,
) -> TorchScorer:
    """The scorer of an encoder where it is, run as ``execution`` says."""
    head = spec.head
    if head is None:
        raise InputError(f"model {spec.name!r} has no head, so the torch backend cannot score with it")
    if head.kind == "classifier":
        label = label_index(head, options.get("label"), spec.name)
        if not is_decoder_classifier(module):
            return ClassifierScorer(module, tokenizer, spec, execution=execution, label=label, options=options)
        check_labels(module, spec)
        live: Any = module
        score_head = class_head(live, label)
        return DecoderClassifier(
            live.base_model, tokenizer, spec, score_head=score_head, execution=execution, options=options
        )
    if head.kind == "dense" and head.pooling == "last" and project is not None and is_decoder(module):
        return DenseDecoder(module, tokenizer, spec, stack=project, execution=execution, options=options)
    if head.kind == "dense":
        return DenseScorer(module, tokenizer, spec, layers=project, execution=execution, options=options)
    if head.kind == "cosine":
        return CosineScorer(module, tokenizer, spec, execution=execution, options=options, project=project)
    if head.kind != "maxsim":
        raise InputError(f"model {spec.name!r} has Head.{head.kind}(), which a decoder computes; use decoder_of")
    return LateInteractionScorer(module, tokenizer, spec, execution=execution, options=options, project=project)
