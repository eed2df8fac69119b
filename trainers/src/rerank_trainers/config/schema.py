"""The settings of a training run: frozen dataclasses, one for each section of the configuration.

The ``Attributes`` of each class become the table of settings in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rerank_trainers.config.data_schema import DataConfig, EvalSet, TrainFile

__all__ = [
    "Config",
    "DataConfig",
    "EvalSet",
    "LoraOptions",
    "ModelConfig",
    "ObjectiveConfig",
    "PublishConfig",
    "TrainConfig",
    "TrainFile",
]


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters (LoRA; Hu et al., 2021) through peft; the score head is trained in full.

    Attributes:
        r: rank of the adapters.
        alpha: scale of the adapters: their product is multiplied by ``alpha / r``.
        dropout: dropout probability of the adapters' input.
        targets: names of the modules that get an adapter; by default all linear layers except the score head.
        bits: ``4`` loads the base in 4 bits (QLoRA; Dettmers et al., 2023), which needs bitsandbytes and a GPU; by
            default the base model is not quantized.
    """

    r: int = 32
    alpha: int = 64
    dropout: float = 0.05
    targets: tuple[str, ...] = ()
    bits: Literal[4] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The model to fine-tune.

    Attributes:
        kind: ``cross-encoder`` (a classifier with one label), ``llm`` (the logit of an answer token), ``layerwise``
            (a causal model with a score at every layer), ``embedding`` (one vector per text) or ``colbert`` (one vector
            per token, compared by MaxSim); by default ``cross-encoder``. It must be set for a checkpoint that ranks in
            another way.
        checkpoint: folder, Hugging Face id or rerank-core model name to start from; a base model without a score head
            gets a new one.
        like: installed model whose template, head and length limits are used, for example ``qwen3-reranker-0.6b``; by
            default those of ``checkpoint`` where it is a reranker, otherwise the tokenizer's layout of a text pair.
        template: template of your own, instead of ``like``.
        answers: for an LLM with its own ``template``: one or two answer words whose logits give the score.
        name: name of the published model; by default the name of its folder.
        max_length: tokens per row, template included; training truncates longer documents, while the published model
            scores them in windows.
        max_query_length: tokens to which longer queries are truncated; by default a query that leaves no room for the
            document is an error.
        layout: ``packed`` computes no padding where the architecture allows it; ``padded`` always pads.
        dropout: dropout probability of all layers that have dropout; by default the value in the checkpoint's config.
        gradient_checkpointing: recompute activations in the backward pass instead of storing them, which is slower and
            takes less memory.
        lora: options of LoRA adapters; by default all weights are trained, and ``{}`` uses the default options below.
        revision: branch, tag or commit of the Hugging Face id.
        first_layer: for ``layerwise``: the first layer that gets a score; by default the checkpoint's value, or 8.
        self_distill: for ``layerwise``: weight of the loss that makes each layer's scores follow the last layer's.
        pooling: for ``embedding``: the vector of a text is the ``mean`` of its tokens' hidden states, that of the first
            token (``cls``) or of the ``last``; by default the checkpoint's pooling, or else ``last`` for a decoder and
            ``mean`` for an encoder.
        width: for ``embedding`` and ``colbert``: width of a new linear layer after the encoder; by default the
            checkpoint's layer, or else none for ``embedding`` and 128 for ``colbert``; 0 for none.
        width_bias: whether the new linear layer has a bias.
        prompts: for ``embedding`` and ``colbert``: text before each query and each document, such as
            ``{"query": "query: ", "document": "passage: "}``; by default that of the checkpoint. Saved with the model.
        reduce: for ``colbert``: MaxSim is the ``sum`` or the ``mean`` over the query's tokens; by default the
            checkpoint's choice, or else ``sum``.
        tokens: for ``colbert``: which tokens have a vector, and how queries are expanded: fields of `TokenVectors`,
            such as ``{"skip_first": true, "expand_to": 32, "expand_with": "[MASK]"}``; by default the checkpoint's.
        matryoshka: for ``embedding``: widths, such as ``[384, 256, 128]``, at each of which the
            beginning of the vector is trained to be a vector of its own.
        matryoshka_weights: weight of each of these widths; by default equal.
        freeze_embeddings: do not train the table of word embeddings; by default it is frozen only where the checkpoint
            stores it in 4 bits.
    """

    kind: Literal["cross-encoder", "llm", "layerwise", "embedding", "colbert"] | None = None
    checkpoint: str = ""
    like: str | None = None
    template: Mapping[str, Any] | None = None
    answers: tuple[str, ...] = ()
    name: str | None = None
    max_length: int = 512
    max_query_length: int | None = None
    layout: Literal["packed", "padded"] = "packed"
    dropout: float | None = None
    gradient_checkpointing: bool = False
    lora: LoraOptions | None = None
    revision: str | None = None
    first_layer: int | None = None
    self_distill: float = 1.0
    pooling: Literal["mean", "cls", "last"] | None = None
    width: int | None = None
    width_bias: bool = False
    prompts: Mapping[str, str] | None = None
    reduce: Literal["sum", "mean"] | None = None
    tokens: Mapping[str, Any] | None = None
    matryoshka: tuple[int, ...] = ()
    matryoshka_weights: tuple[float, ...] = ()
    freeze_embeddings: bool | None = None


@dataclass(frozen=True)
class ObjectiveConfig:
    """One term of the training loss.

    Attributes:
        name: name of the objective.
        weight: weight of the term.
        options: options of the objective.
        temperature: divisor of the scores before the objective reads them; by default 0.02 for cosines and for MaxSim
            averaged over the query's tokens, and 1 for other scores.
    """

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    temperature: float | None = None


@dataclass(frozen=True)
class TrainConfig:
    """The optimizer, the schedule and the evaluation during training.

    Attributes:
        out: output folder for the configuration, checkpoints, logs and the published model.
        batch_size: queries per optimizer step, summed over all processes; the gradient depends neither on
            ``token_budget`` nor on the number of processes.
        token_budget: tokens per forward pass, which limits memory and does not change the result; a query whose
            documents exceed it is computed in parts with the same gradient.
        epochs: passes over the training rows; fractions such as 0.5 are allowed.
        max_steps: total number of optimizer steps, instead of ``epochs``; -1 uses ``epochs``.
        learning_rate: peak learning rate of AdamW.
        schedule: learning-rate schedule, one of transformers' ``lr_scheduler_type`` names.
        weight_decay: weight decay of AdamW, not applied to biases and normalization weights.
        clip: maximum gradient norm; 0 turns clipping off.
        seed: seed of a new score head, the order of rows, the documents drawn and dropout.
        warmup: fraction of the steps over which the learning rate rises to its peak.
        precision: floating-point type of the computation: ``float32``, or mixed precision in ``bf16`` or ``fp16`` with
            float32 weights.
        eval_steps: steps between evaluations, each of which also saves a checkpoint; by default once per epoch.
        metric: dev-set metric that selects the best checkpoint: ``nDCG@10``, ``AP``, ``RR@10``, ...; with several dev
            sets ``NAME/nDCG@10``.
        patience: number of evaluations without improvement after which training stops; by default it does not stop
            early.
        log_steps: steps between log entries.
        keep_checkpoints: number of checkpoints kept, the best one included.
        device: ``cpu`` to train without a GPU, ``cuda`` to require one; by default a GPU is used if there is one.
        workers: processes that read and tokenize ahead; 0 does this in the training process.
        arguments: further transformers ``TrainingArguments`` by name: ``report_to``, ``deepspeed``, ``fsdp``, ...
    """

    out: str = "run"
    epochs: float = 2.0
    max_steps: int = -1
    learning_rate: float = 2e-5
    warmup: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.01
    batch_size: int = 16
    token_budget: int = 8192
    clip: float = 1.0
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    seed: int = 42
    eval_steps: int | None = None
    metric: str = "nDCG@10"
    patience: int | None = None
    log_steps: int = 10
    keep_checkpoints: int = 2
    workers: int = 0
    device: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishConfig:
    """The published model folder.

    Attributes:
        dtype: floating-point type of the published weights.
        activation: activation that the published model applies to its scores by default.
        calibrate: fit a scale and an offset of the score to the dev labels (Platt, 1999), so that the sigmoid of the
            score is a probability.
        average_with_start: share of the weights at the start of training in the published weights, which are the
            weighted mean of both (Wortsman et al., *Robust fine-tuning of zero-shot models*, 2022); 0.5 keeps most of
            the start's quality on other kinds of text. 0 publishes the trained weights.
        license: license name in the model card and in `rerank models`.
        languages: language codes in the model card and in `rerank models`.
        description: one-line description in the model card and in `rerank models`.
    """

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    activation: Literal["none", "sigmoid"] = "none"
    calibrate: bool = False
    average_with_start: float = 0.0
    license: str = ""
    languages: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Config:
    """The configuration of a whole run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: tuple[ObjectiveConfig, ...] = (ObjectiveConfig("bce"),)
    train: TrainConfig = field(default_factory=TrainConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
