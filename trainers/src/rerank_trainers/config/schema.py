"""What a training run is told: frozen dataclasses, one for each part of its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rerank_core.records.label_scale import LabelScale

__all__ = ["Config", "DataConfig", "LoraOptions", "ModelConfig", "ObjectiveConfig", "PublishConfig", "TrainConfig"]


@dataclass(frozen=True)
class DataConfig:
    """Which rows are read, and how many documents of each a step sees.

    Attributes:
        train, eval: files or globs: JSON, CSV, TSV, Parquet, packed or not, in any format of docs/training.md.
        group_size: documents of a query in one step, one or more of them relevant, of every grade in turn; drawn anew
            each epoch. 0 takes all.
        label_range: lowest and highest label; labels are mapped to [0, 1] between them.
        label_map: or what each label becomes, by its text: ``{"3": 1, "2": 0.75, "1": 0.5, "0": 0.25}``.
        encoding: of files that are not UTF-8, such as gb18030; most are recognised.
        scores_are: whether ``pos_scores`` and ``neg_scores`` are a teacher's scores or labels.
        on_error: what to do about bad rows: stop, leave them out, or leave out only what cannot be used at all.
    """

    train: tuple[str, ...] = ()
    eval: tuple[str, ...] = ()
    group_size: int = 8
    label_range: tuple[float, float] = (0.0, 1.0)
    label_map: Mapping[str, float] | None = None
    encoding: str | None = None
    scores_are: Literal["teacher", "labels"] = "teacher"
    on_error: Literal["error", "drop", "warn"] = "error"

    def label_scale(self) -> LabelScale:
        """The mapping from labels in the files to labels in [0, 1]: that of ``label_map`` or of ``label_range``.

        Raises:
            InputError: a range or a map that is no label scale.
        """
        return LabelScale.of(self.label_range if self.label_map is None else self.label_map)


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters (Hu et al., 2021) through peft; the score head is trained whole beside them.

    Attributes:
        r: rank.
        alpha: the adapters' product is scaled by ``alpha / r``.
        dropout: before the adapters.
        targets: names of the layers that get one; by default all linear layers but the head.
        bits: 4 loads the base quantized (QLoRA, Dettmers et al., 2023); needs bitsandbytes and a GPU.
    """

    r: int = 32
    alpha: int = 64
    dropout: float = 0.05
    targets: tuple[str, ...] = ()
    bits: Literal[4] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """What is trained.

    Attributes:
        kind: ``cross-encoder`` (one-label classifier), ``llm`` (logit of a word) or ``layerwise`` (a causal model with
            a score at every layer); by default ``cross-encoder``, but a checkpoint that ranks in another way needs it
            said.
        checkpoint: a directory, a hub id, or a model that rerank-core knows; a base model gets a fresh score head.
        like: the installed model whose template, head and limits are followed (``qwen3-reranker-0.6b``); by default
            that of ``checkpoint`` where it is a reranker, else the tokenizer's pair layout.
        template, answers: or a template of your own, and for an LLM one or two words whose logits are the score.
        name: of the published model; by default that of its folder.
        max_length: tokens of a row, template included. A longer document is cut to it in training; served, it is read
            in windows.
        max_query_length: cut longer queries; by default a query that leaves no room is an error.
        layout: ``packed`` computes no padding, where the architecture allows; ``padded`` never tries.
        dropout: of every layer that has one, in place of the checkpoint's own.
        gradient_checkpointing: compute activations again in the backward pass rather than keep them: slower, and less
            memory.
        lora: train low-rank adapters rather than all weights; ``{}`` takes their defaults.
        revision: of a hub id.
        first_layer: of a ``layerwise`` model, the first layer with a score; by default the checkpoint's own, else 8.
        self_distill: of a ``layerwise`` model, how much every layer learns from the last one beside the objective.
    """

    kind: Literal["cross-encoder", "llm", "layerwise"] | None = None
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


@dataclass(frozen=True)
class ObjectiveConfig:
    """One objective of the sum that is minimised: its name, its weight, its own options (docs/training.md)."""

    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainConfig:
    """How the weights are moved.

    Attributes:
        out: the folder of a run: configuration, checkpoints, logs and the published model.
        batch_size: queries of one step, over all processes. The step is the same however it is cut: into passes that
            fit ``token_budget``, over any number of processes.
        token_budget: tokens of one forward pass; memory, never the result. A query whose documents exceed it is
            computed in parts with the same gradient.
        epochs: passes over the rows; a share of one will do.
        max_steps: steps in all, in place of ``epochs``.
        learning_rate: the highest, of AdamW.
        schedule: of the learning rate, as transformers names it.
        weight_decay: of all weights but biases and norms.
        clip: the gradient's norm is cut to it; 0 cuts nothing.
        seed: of a fresh head, of the order of rows, of the documents drawn, of dropout.
        warmup: share of the steps in which the learning rate rises.
        precision: ``bf16`` and ``fp16`` compute in it and keep float32 weights.
        eval_steps: evaluate and save every so many steps; by default at the end of each epoch.
        metric: of the dev set, which picks the best checkpoint: ``nDCG@10``, ``AP``, ``RR@10``, ...
        patience: evaluations without a better one until training stops; by default it never does.
        log_steps: steps between two lines of the log.
        keep_checkpoints: how many are kept, the best one among them.
        device: ``cpu`` where a GPU is not to be used, ``cuda`` where one must be; by default one that is there is.
        workers: processes that read and tokenize ahead.
        arguments: more of transformers' TrainingArguments, by name: ``report_to``, ``deepspeed``, ``fsdp``, ...
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
    """What is written when training is done.

    Attributes:
        dtype: of the published weights.
        activation: what is applied to the score by default when the folder is loaded.
        calibrate: fit scale and offset of the score to the dev labels (Platt, 1999), so that its sigmoid is a
            probability.
        license, languages, description: for the card, and for `rerank models`.
    """

    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    activation: Literal["none", "sigmoid"] = "none"
    calibrate: bool = False
    license: str = ""
    languages: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Config:
    """A whole run."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: tuple[ObjectiveConfig, ...] = (ObjectiveConfig("bce"),)
    train: TrainConfig = field(default_factory=TrainConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
