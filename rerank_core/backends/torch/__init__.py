"""The torch backend, and what a plugin with code of its own builds its scorer from. Importing it imports torch.

`build` makes the scorer of a spec without code of its own. A plugin's factory calls `locate` for the folder with the
files, then `encoder_of`, `decoder_of` or `language_model_of` for the model, and returns `DecoderScorer`,
`LateInteractionScorer` or a class of its own. `scorer_of` makes the scorer of a module that is in memory already.
The names in ``__all__`` are public; the modules of this folder are not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from rerank_core.backends.chat_template import MessageTemplate, open_tokenizer
from rerank_core.backends.locate import locate
from rerank_core.backends.pair_template import with_literal_template
from rerank_core.backends.tokenizer import TextTokenizer, check_tokenizer_files
from rerank_core.backends.torch import load_weights, process_memory
from rerank_core.backends.torch.attention import packing
from rerank_core.backends.torch.attention.causal_packing import CausalPacking
from rerank_core.backends.torch.base import TorchScorer
from rerank_core.backends.torch.cross_encoder.classifier import ClassifierScorer
from rerank_core.backends.torch.decoder.causal_lm import DecoderScorer
from rerank_core.backends.torch.decoder.heads import (
    ScoreHead,
    check_layers,
    head_layers,
    label_head,
    layer_heads_of,
    live_label_head,
    live_layer_heads,
)
from rerank_core.backends.torch.decoder.layer_runner import LayerRunner, LayerState
from rerank_core.backends.torch.decoder.layered_model import LayeredModel
from rerank_core.backends.torch.decoder.output_layer import TokenLogits
from rerank_core.backends.torch.encoder_decoder.load import encoder_decoder_of, is_encoder_decoder
from rerank_core.backends.torch.encoder_decoder.scorer import EncoderDecoderScorer
from rerank_core.backends.torch.encoder_scorer import encoder_scorer, scorer_with
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.late_interaction.embeddings import Block, Embedding, RowRef
from rerank_core.backends.torch.late_interaction.maxsim_scorer import VECTORS, LateInteractionScorer
from rerank_core.backends.torch.late_interaction.training_module import training_module
from rerank_core.backends.torch.lora import load
from rerank_core.backends.torch.lora.load import check_base, model_folder, tokenizer_folder
from rerank_core.backends.torch.process_memory import return_freed_memory
from rerank_core.backends.torch.safetensors_reader import count_weights
from rerank_core.backends.torch.side_layers.of_head import side_layers_of
from rerank_core.backends.torch.side_layers.projection import linear_of_file, load_projection
from rerank_core.errors import InputError
from rerank_core.options import Options
from rerank_core.spec import Head, ModelSpec, TokenVectors
from rerank_core.spec.folders.adapter import is_adapter
from rerank_core.spec.labels import label_index
from rerank_core.spec.untrusted_files import reading

if TYPE_CHECKING:
    import torch

process_memory.limit_kernel_caches()

__all__ = [
    "VECTORS",
    "Block",
    "CausalPacking",
    "ClassifierScorer",
    "DecoderScorer",
    "Embedding",
    "Execution",
    "LateInteractionScorer",
    "LayerRunner",
    "LayerState",
    "MessageTemplate",
    "RowRef",
    "TextTokenizer",
    "TokenLogits",
    "TorchScorer",
    "build",
    "check_tokenizer_files",
    "count_weights",
    "decoder_of",
    "encoder_of",
    "encoder_scorer",
    "language_model_of",
    "linear_of_file",
    "locate",
    "model_folder",
    "open_tokenizer",
    "projection_of",
    "return_freed_memory",
    "scorer_of",
    "tokenizer_folder",
    "training_module",
]


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _reading(
    function: Callable[Concatenate[ModelSpec, Options, Path, _P], _R],
) -> Callable[Concatenate[ModelSpec, Options, Path, _P], _R]:
    """Decorator: errors of the function are reported as errors of the folder, not of the plugin that calls it."""

    @functools.wraps(function)
    def wrapper(spec: ModelSpec, options: Options, directory: Path, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with reading(directory):
            return function(spec, options, directory, *args, **kwargs)

    return wrapper


def build(spec: ModelSpec, options: Options) -> TorchScorer:
    """Load a spec's checkpoint and build its scorer.

    Raises:
        CheckpointError: missing, wrong or incomplete files; a head without trained weights.
        InputError: a device that is not available, a layer without a head, or no label where there are several.
    """
    head = _head(spec)
    label_index(head, options.model.get("label"), spec.name)  # refuses a missing label before a download
    directory = locate(spec, options)
    model = model_folder(directory, spec, options)
    if options.checkpoint is None:
        check_base(spec, directory, model)
    spec = with_literal_template(spec, options.model, tokenizer_folder(directory, spec, options), model)
    if head.kind == "last_token" and is_encoder_decoder(model):
        return _reading(encoder_decoder_of)(spec, options, directory)
    if head.kind in ("last_token", "layers"):
        return decoder_of(spec, options, directory)
    module, tokenizer = encoder_of(spec, options, directory)
    return encoder_scorer(module, tokenizer, spec, options, project=side_layers_of(module, model, head))


@_reading
def encoder_of(spec: ModelSpec, options: Options, directory: Path) -> tuple[torch.nn.Module, TextTokenizer]:
    """The encoder of a directory and its tokenizer: the first half of `build`, for a plugin with its own scorer."""
    if is_adapter(directory):
        return _merged(spec, options, directory)
    module = load_weights.load_module(
        directory, _head(spec).kind, device=options.device, dtype=_dtype(options), pickled=spec.pickled
    )
    return module, TextTokenizer.from_directory(directory, parse_special_tokens=options.parse_special_tokens)


def projection_of(module: torch.nn.Module, directory: Path, vectors: TokenVectors) -> torch.nn.Module | None:
    """The linear layers that a late-interaction checkpoint keeps beside its encoder, on the encoder's device and in
    its dtype; None where ``vectors.projection`` is empty.

    Args:
        module: the encoder, from `encoder_of`.
        directory: the checkpoint folder; with an adapter, the base model's (`model_folder`).

    Raises:
        CheckpointError: weights that are missing or of a shape that does not fit.
    """
    live: Any = module
    width = live.config.hidden_size
    with reading(directory):
        return load_projection(directory, vectors.projection, width, device=live.device, dtype=live.dtype)


@_reading
def decoder_of(
    spec: ModelSpec,
    options: Options,
    directory: Path,
    *,
    config: Any = None,
    runner: Callable[[Any], LayerRunner] = LayerRunner,
    ordinal: bool = False,
) -> DecoderScorer:
    """Load a causal model and build its scorer; for a plugin whose checkpoint needs another configuration or runner.

    Args:
        config: a transformers configuration that replaces the directory's config.json.
        runner: makes the `LayerRunner` of the module; a subclass may act between layers.
        ordinal: see `layer_heads_of`.
    """
    head = _head(spec)
    if is_adapter(directory):
        return _adapted(spec, options, directory, config, runner, ordinal)
    depth: int | None = None
    layers: tuple[int, ...] = ()
    if head.kind == "layers":
        config = config or load_weights.configuration(directory)
        layers = _layers(head, options, config.num_hidden_layers, spec.name)
        depth = max(layers)
    module: Any = load_weights.load_module(
        directory, head.kind, device=options.device, dtype=_dtype(options), config=config, depth=depth
    )
    tokenizer = TextTokenizer.from_directory(directory, parse_special_tokens=options.parse_special_tokens)
    if head.kind == "layers":
        score_head: ScoreHead = layer_heads_of(directory, module, head, layers, ordinal=ordinal)
    else:
        score_head = label_head(directory, module, head, tokenizer, spec.name)
    return DecoderScorer(
        module,
        tokenizer,
        spec,
        score_head=score_head,
        execution=Execution.of(options),
        runner=runner(module),
        options=options.model,
    )


def language_model_of(spec: ModelSpec, options: Options, directory: Path) -> Any:
    """The causal language model of a directory, with an adapter merged; for a plugin that generates text."""
    if not is_adapter(directory):
        return load_weights.load_module(directory, "causal", device=options.device, dtype=_dtype(options))
    base = model_folder(directory, spec, options)
    return load.merged(directory, base, "causal", options, _dtype(options), Head.last_token("yes"))


def _adapted(
    spec: ModelSpec, options: Options, directory: Path, config: Any, runner: Callable[[Any], LayerRunner], ordinal: bool
) -> DecoderScorer:
    head = _head(spec)
    whole, tokenizer = _merged(spec, options, directory, config)
    module: Any = whole.base_model
    if isinstance(whole, LayeredModel):
        layers = _layers(head, options, len(module.layers), spec.name)
        score_head: ScoreHead = live_layer_heads(whole, layers, ordinal=ordinal)
    else:
        score_head = live_label_head(whole, head, tokenizer, spec.name)
    return DecoderScorer(
        module,
        tokenizer,
        spec,
        score_head=score_head,
        execution=Execution.of(options),
        runner=runner(module),
        options=options.model,
    )


def _merged(spec: ModelSpec, options: Options, directory: Path, config: Any = None) -> tuple[Any, TextTokenizer]:
    """The merged model of an adapter's directory, and its tokenizer."""
    head, base = _head(spec), model_folder(directory, spec, options)
    folder = tokenizer_folder(directory, spec, options)
    tokenizer = TextTokenizer.from_directory(folder, parse_special_tokens=options.parse_special_tokens)
    kind = "causal" if head.kind == "last_token" else head.kind
    return load.merged(directory, base, kind, options, _dtype(options), head, config=config), tokenizer


def _layers(head: Head, options: Options, depth: int, model: str) -> tuple[int, ...]:
    """The layers to score at: those of the option ``layer``, else the deepest layer with a head."""
    layers: tuple[int, ...] = options.model.get("layer") or tuple(head_layers(head, depth)[-1:]) or (depth,)
    check_layers(head, [*layers, *(options.model.get("cascade") or ())], depth, model)
    return layers


def scorer_of(
    module: torch.nn.Module, tokenizer: Any, spec: ModelSpec, *, project: torch.nn.Module | None = None
) -> TorchScorer:
    """The scorer of a module in memory, on its device and in its dtype. Trainers evaluate through the serving pipeline
    with it.

    Args:
        module: a transformers model of the class that the head needs; for ``layers`` a `LayeredModel`. Its layers are
            not replaced. Rows are packed if its attention implementation is ``packing.NAME``.
        tokenizer: a `TextTokenizer`, or a transformers tokenizer or ``tokenizers.Tokenizer``, which is copied.
        project: see `encoder_scorer`.

    Raises:
        InputError: a spec without a head, or layer heads for a module that is not a `LayeredModel`.
        CheckpointError: module, tokenizer and template do not fit each other.
    """
    if not isinstance(tokenizer, TextTokenizer):
        tokenizer = TextTokenizer.from_transformers(tokenizer)
    live: Any = module
    execution = Execution(pack=getattr(live.config, "_attn_implementation", None) == packing.NAME, live=True)
    head = _head(spec)
    if head.kind not in ("last_token", "layers"):
        return scorer_with(module, tokenizer, spec, execution, {}, project)
    if head.kind == "last_token" and getattr(live.config, "is_encoder_decoder", False):
        return EncoderDecoderScorer(live, tokenizer, spec, execution=execution)
    if head.kind == "layers" and not isinstance(live, LayeredModel):
        raise InputError(
            f"model {spec.name!r}: a {type(live).__name__} has no heads at its layers; give a LayeredModel"
        )
    if isinstance(live, LayeredModel):
        score_head: ScoreHead = live_layer_heads(live)
    else:
        score_head = live_label_head(live, head, tokenizer, spec.name)
    return DecoderScorer(live.base_model, tokenizer, spec, score_head=score_head, execution=execution)


def _head(spec: ModelSpec) -> Head:
    if spec.head is None:
        raise InputError(f"model {spec.name!r} has no head, so the torch backend cannot score with it")
    return spec.head


def _dtype(options: Options) -> str | None:
    return "float32" if options.dtype == "int8" else options.dtype
