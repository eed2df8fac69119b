"""The part that embedding and late-interaction models share: query and document are encoded separately."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rerank_core import Head, InputError, ModelSpec, Template
from rerank_core.backends import build
from rerank_core.backends.torch import training_module
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.side_layers.projection import Projection
from rerank_core.errors import near_matches, short
from rerank_core.options import Options
from rerank_trainers.config.schema import Config, ModelConfig
from rerank_trainers.model.kind import Loaded, ModelKind
from rerank_trainers.model.source import Source, tokenizer_of
from rerank_trainers.publish.folders.dense import write_layer

__all__ = ["VectorKind"]

# The submodule with the layers after the encoder.
_LAYERS = "projection"


class VectorKind(ModelKind):
    """A model whose queries and documents are encoded separately.

    Attributes:
        new_width: width of the linear layer of a new model; 0 for none.
        first_folder: number in the name of the first folder with such a layer.
    """

    keeps_code = False
    wrap = "each"
    lora_task = "FEATURE_EXTRACTION"
    in_batch = True
    new_width: int
    first_folder: int

    def template(self, config: ModelConfig, like: ModelSpec | None) -> Template:
        """The followed model's template, else the text alone; in both the prompts of the configuration replace the
        text before query and document."""
        template = Template.each() if like is None else like.template
        prompts = _prompts(config.prompts)
        query = prompts["query"] + "{query}" if "query" in prompts else template.query
        doc = prompts["document"] + "{doc}" if "document" in prompts else template.doc
        return replace(template, query=query, doc=doc)

    @abstractmethod
    def with_folders(self, head: Head, folders: tuple[str, ...]) -> Head:
        """The head with the folders of the layers after the encoder."""

    @abstractmethod
    def bare(self, head: Head) -> Head:
        """The head that an encoder without further layers is loaded with."""

    def load(self, source: Source, config: ModelConfig, spec: ModelSpec) -> Loaded:
        """The encoder as its plugin loads it, with its layers or a new one.

        Raises:
            CheckpointError: files that cannot be loaded.
            InputError: a width that does not fit.
        """
        # A model that is named in `model.like` says how the checkpoint is read, its layers included.
        own = source.own or (source.follows if config.like else None)
        assert spec.head is not None
        options = {"device": "cpu", "dtype": "float32"}
        if own is None or config.width is not None:
            # Not as ``checkpoint=``: a reranker.json there may describe another head, which is left out.
            start = replace(spec, head=self.bare(spec.head), options=(), checkpoint=str(source.directory))
        else:
            start = replace(own, sha256={})
            options["checkpoint"] = str(source.directory)
        scorer = build(start, Options.of(start, options))
        assert isinstance(scorer, TorchScorer)
        module: Any = training_module(scorer)
        if isinstance(pooler := getattr(module, "pooler", None), torch.nn.Module):
            pooler.requires_grad_(False)  # reads no token vector, and DistributedDataParallel waits for its gradient
        if config.dropout is not None:
            _set_dropout(module, config.dropout)
        fresh = self._new_layer(module, config, known=own is not None)
        layers = getattr(module, _LAYERS, ())
        folders = tuple(_folders(layers, self.first_folder))
        if config.freeze_embeddings or (config.freeze_embeddings is None and source.unpacked):
            module.get_input_embeddings().requires_grad_(False)
        spec = replace(spec, head=self.with_folders(spec.head, folders))
        return Loaded(module, tokenizer_of(source.directory), spec, fresh)

    def _new_layer(self, module: Any, config: ModelConfig, *, known: bool) -> list[str]:
        """Add or remove the layer that the configuration asks for; returns the names of its weights."""
        old = getattr(module, _LAYERS, None)
        width = config.width
        if width is None:
            width = 0 if known else self.new_width
            if not width:
                return []
        if old is not None:
            delattr(module, _LAYERS)
        if not width:
            return []
        layer = torch.nn.Linear(module.config.hidden_size, width, bias=config.width_bias)
        bias = None if layer.bias is None else layer.bias.detach()
        made = Projection("model.width", module.config.hidden_size, layer.weight.detach(), bias)
        module.projection = torch.nn.Sequential(made).requires_grad_(True)
        return [f"{_LAYERS}.{name}" for name, _ in module.projection.named_parameters()]

    def trained_in_full(self, module: Any, fresh: Sequence[str]) -> list[str]:
        """The layers after the encoder, whether they are new or not."""
        return [_LAYERS] if hasattr(module, _LAYERS) else []

    def check(self, config: Config) -> None:
        """As `ModelKind.check`; also refuses prompts of other sides, and an activation, which needs logits."""
        super().check(config)
        if config.publish.activation != "none":
            raise InputError(
                f"publish.activation is {config.publish.activation!r}, and model.kind is {self.name!r}, whose scores "
                "are similarities and no logits; leave it out"
            )
        _prompts(config.model.prompts)
        if config.model.width is not None and config.model.width < 0:
            raise InputError(f"model.width is {config.model.width!r}; it must be 0 (no layer) or more")

    def write(self, module: Any, spec: ModelSpec, folder: Path) -> None:
        """Write each layer after the encoder as a folder of sentence-transformers."""
        layers: Any = getattr(module, _LAYERS, ())
        if hasattr(layers, "modules_to_save"):  # peft's wrapper of the original and the trained layers
            layers = layers.modules_to_save[layers.active_adapters[0]]
        for name, layer in zip(_folders(layers, self.first_folder), layers, strict=True):
            write_layer(folder / name, layer)


def _folders(layers: Iterable[torch.nn.Module], first: int) -> list[str]:
    """The folder of each layer. Readers know a layer that only scales vectors by its folder's name."""
    names = ["Dense" if any(True for _ in layer.parameters()) else "Normalize" for layer in layers]
    return [f"{number}_{name}" for number, name in enumerate(names, start=first)]


def _prompts(prompts: Mapping[str, str] | None) -> dict[str, str]:
    """The prompts by side.

    Raises:
        InputError: another side, or a prompt that is no string.
    """
    for name, text in (prompts or {}).items():
        if name not in ("query", "document"):
            near = near_matches(name, ["query", "document"])
            guess = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"model.prompts has {short(name)}; its keys are 'query' and 'document'{guess}")
        if not isinstance(text, str) or "{" in text or "}" in text:
            raise InputError(f"model.prompts[{name!r}] is {short(text)}; it must be text without braces")
    return dict(prompts or {})


def _set_dropout(module: Any, value: float) -> None:
    """Set the probability of every dropout of a loaded module."""
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = value
        for name, own in list(vars(part).items()):
            if "dropout" in name and isinstance(own, float):
                setattr(part, name, value)
    for name, own in module.config.to_dict().items():
        if ("dropout" in name or name.endswith("pdrop")) and (own is None or isinstance(own, (int, float))):
            setattr(module.config, name, value)
