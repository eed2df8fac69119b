"""Score heads of causal models: the logits of one or two label tokens, a linear head at each scored layer, or the layer
of a sequence classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers.modeling_layers import GenericForSequenceClassification

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.decoder.layered_model import LayeredModel
from rerank_core.backends.torch.decoder.output_layer import TokenLogits
from rerank_core.backends.torch.decoder.soft_cap import final_cap, soft_cap
from rerank_core.backends.torch.label_score import label_score
from rerank_core.backends.torch.safetensors_reader import tensors_of
from rerank_core.errors import CheckpointError, InputError
from rerank_core.spec import Head

__all__ = [
    "ClassHead",
    "LabelHead",
    "LayerHeads",
    "ScoreHead",
    "check_layers",
    "class_head",
    "head_layers",
    "is_decoder_classifier",
    "label_head",
    "label_ids",
    "layer_heads_of",
    "live_label_head",
    "live_layer_heads",
]


class ScoreHead(Protocol):
    """Computes scores from the hidden state of each row's last token."""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers to score at, counted from 1; the score of the last one listed ranks."""
        ...

    def scores(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        """Scores ``[rows]`` in float32 of hidden states ``[rows, width]`` after ``layer`` layers."""
        ...

    def name(self, layer: int) -> str:
        """The name of a layer's score in `Output.scores`."""
        ...


@dataclass(frozen=True)
class LabelHead:
    """The logit of one label token, or the log-odds of two. Other rows of the output layer are not computed.

    Attributes:
        rows: token ids of the positive label and, where there is one, the negative label.
        logits: computes ``[rows, labels]`` in float32 from hidden states.
    """

    layers: tuple[int, ...]
    rows: tuple[int, ...]
    logits: Callable[[torch.Tensor], torch.Tensor]

    def scores(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        logits = self.logits(hidden)
        return logits[:, 0] if len(self.rows) == 1 else logits[:, 0] - logits[:, 1]

    def name(self, layer: int) -> str:
        return "score"


@dataclass(frozen=True)
class LayerHeads:
    """A linear head at each scored layer.

    Attributes:
        heads: weight ``[1, width]`` of each layer.
        softcap: soft cap of the scores; None for none.
    """

    layers: tuple[int, ...]
    heads: Mapping[int, torch.Tensor]
    softcap: float | None = None

    def scores(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        logits = torch.nn.functional.linear(hidden.float(), self.heads[layer].float())[:, 0]
        return soft_cap(logits, self.softcap)

    def name(self, layer: int) -> str:
        return "score" if len(self.layers) == 1 else f"layer_{layer}"


@dataclass(frozen=True)
class ClassHead:
    """The linear layer of a sequence classifier. Its weights are read at each call, so the scores follow training.

    Attributes:
        classify: gives ``[rows, labels]`` for hidden states ``[rows, width]``.
        label: the number of the label that is the score, where there are several.
    """

    layers: tuple[int, ...]
    classify: Any
    label: int

    def scores(self, hidden: torch.Tensor, layer: int) -> torch.Tensor:
        if type(self.classify) is not torch.nn.Linear:
            # A wrapper around the layer, such as an adapter: only its own forward is right.
            return self.one_score(self.classify(hidden))
        bias = None if self.classify.bias is None else self.classify.bias.float()
        return self.one_score(torch.nn.functional.linear(hidden.float(), self.classify.weight.float(), bias))

    def one_score(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores ``[rows]`` in float32 of logits ``[rows, labels]``."""
        return label_score(logits, self.label)

    def name(self, layer: int) -> str:
        return "score"


def is_decoder_classifier(module: Any) -> bool:
    """Whether a module classifies by one linear layer on the last token of a decoder with a list of layers, as
    transformers' classes for Llama, Mistral, Qwen, Gemma and others do."""
    return isinstance(module, GenericForSequenceClassification) and hasattr(module.base_model, "layers")


def class_head(module: Any, label: int) -> ClassHead:
    """The score head of a decoder classifier in memory; ``label`` is the number of the label that is the score."""
    return ClassHead((module.base_model.config.num_hidden_layers,), module.score, label)


def label_ids(head: Head, tokenizer: TextTokenizer, model: str, *, rows: int | None = None) -> tuple[int, ...]:
    """Token ids of a head's labels.

    Args:
        rows: how many rows the model's output layer has; an id above that is refused.

    Raises:
        CheckpointError: a word that is not exactly one token for this tokenizer, or an id without a row.
    """
    labels = []
    for label in (head.positive, head.negative):
        if label is None:
            continue
        if isinstance(label, int):
            if rows is not None and label >= rows:
                raise CheckpointError(
                    f"model {model!r}: the label is the token id {label}, and the model's output layer has {rows} rows"
                )
            labels.append(label)
            continue
        ids = tokenizer.encode([label])[0].ids
        if len(ids) != 1:
            raise CheckpointError(
                f"model {model!r}: the label {label!r} is {len(ids)} tokens here, {list(ids)!r}; a label must be one "
                "token. Choose labels that this tokenizer has whole, or give token ids"
            )
        labels.append(ids[0])
    if len(set(labels)) != len(labels):
        raise CheckpointError(f"model {model!r}: both labels are the token {labels[0]}; the score would always be 0")
    return tuple(labels)


def label_head(directory: Path, module: Any, head: Head, tokenizer: TextTokenizer, model: str) -> LabelHead:
    """The label head of a checkpoint whose body was loaded without its output layer.

    Raises:
        CheckpointError: no output layer, or labels that are not single tokens.
    """
    ids = label_ids(head, tokenizer, model, rows=packing.embedding_rows(module))
    layer = TokenLogits.of(directory, module, ids, model)
    layer.check(module)
    return LabelHead((module.config.num_hidden_layers,), ids, layer)


def live_label_head(module: Any, head: Head, tokenizer: TextTokenizer, model: str) -> LabelHead:
    """The label head of a causal language model in memory. It reads the weights at each call, so it follows training.

    Raises:
        CheckpointError: a module without an output layer, or labels that are not single tokens.
    """
    rows = label_ids(head, tokenizer, model, rows=packing.embedding_rows(module))
    layer = TokenLogits(module, rows, model)
    layer.check(module.base_model)
    return LabelHead((module.config.num_hidden_layers,), rows, layer)


def layer_heads_of(
    directory: Path,
    module: Any,
    head: Head,
    layers: Sequence[int],
    *,
    ordinal: bool = False,
) -> LayerHeads:
    """The heads of a checkpoint for the layers that were loaded.

    Args:
        layers: the layers to score at; the last one ranks.
        ordinal: the lowest of ``layers`` gets the first head, the next the second, as FlagEmbedding's lightweight
            reranker does; otherwise each layer gets the head that it was trained with.

    Raises:
        CheckpointError: a head missing from the files, or of another width.
    """
    weights = head.weights or ""
    numbers = {layer: number for number, layer in enumerate(head_layers(head, len(module.layers)))}
    if ordinal:
        numbers = {layer: number for number, layer in enumerate(sorted(set(layers)))}
    names = {layer: weights.replace("{i}", str(number)) for layer, number in numbers.items()}
    tensors = tensors_of(directory, list(names.values()))
    width = module.config.hidden_size
    embeddings = module.get_input_embeddings().weight
    heads = {}
    for layer, name in names.items():
        if name not in tensors:
            raise CheckpointError(f"{directory} has no {name!r}, the head of layer {layer}; its scores would be random")
        if tensors[name].shape != (1, width):
            raise CheckpointError(f"{directory}: {name!r} is {list(tensors[name].shape)}, not [1, {width}]")
        heads[layer] = tensors[name].to(embeddings)
    return LayerHeads(tuple(layers), heads, final_cap(module.config))


def live_layer_heads(module: LayeredModel, layers: Sequence[int] | None = None, *, ordinal: bool = False) -> LayerHeads:
    """The heads of a module in memory. They are read at each call, so they follow training.

    Args:
        layers: the layers to score at, the last one ranks; by default all.
        ordinal: see `layer_heads_of`.
    """
    modules: Any = module.lm_head
    heads = {layer: head.linear_head.weight for layer, head in zip(module.scored_layers, modules, strict=True)}
    if ordinal and layers is not None:
        heads = {layer: modules[number].linear_head.weight for number, layer in enumerate(sorted(set(layers)))}
    return LayerHeads(tuple(layers or heads), heads, module.softcap)


def head_layers(head: Head, depth: int) -> range:
    """The layers with a score in a model of ``depth`` layers."""
    return range(head.first or 1, depth + 1, head.step or 1)


def check_layers(head: Head, layers: Sequence[int], depth: int, model: str) -> None:
    """Refuse layers that have no head.

    Raises:
        InputError: a layer without a head; the message lists the layers that have one.
    """
    valid = head_layers(head, depth)
    if wrong := [layer for layer in layers if layer not in valid]:
        every = f", every {valid.step}" if valid.step != 1 else ""
        raise InputError(
            f"layer {wrong[0]!r} has no score; {model!r} has scores at layers {valid.start} to {depth}{every}"
        )
