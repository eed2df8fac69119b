"""`encoder_decoder_of`: from the files of an encoder-decoder to its scorer; one without a trained output layer is
refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.torch import load_weights
from rerank_core.backends.torch.encoder_decoder.scorer import EncoderDecoderScorer
from rerank_core.backends.torch.execution import Execution
from rerank_core.backends.torch.lora.load import merged, model_folder, tokenizer_folder
from rerank_core.errors import CheckpointError, InputError
from rerank_core.options import Options
from rerank_core.spec import ModelSpec
from rerank_core.spec.folders.adapter import is_adapter
from rerank_core.spec.untrusted_files import read_json

__all__ = ["encoder_decoder_of", "is_encoder_decoder"]


def is_encoder_decoder(directory: Path) -> bool:
    """Whether the model of a folder is an encoder-decoder, from its config.json.

    Raises:
        CheckpointError: a config.json that cannot be read.
    """
    return bool(getattr(load_weights.configuration(directory), "is_encoder_decoder", False))


def encoder_decoder_of(spec: ModelSpec, options: Options, directory: Path) -> EncoderDecoderScorer:
    """Load an encoder-decoder, with an adapter merged, and build its scorer.

    Raises:
        CheckpointError: missing, wrong or incomplete files.
        InputError: a head or template that is not an encoder-decoder's.
    """
    base = model_folder(directory, spec, options)
    dtype = "float32" if options.dtype == "int8" else options.dtype
    if is_adapter(directory):
        if spec.head is None:
            raise InputError(f"model {spec.name!r} has no head, so an adapter cannot be merged for it")
        module = merged(directory, base, "seq2seq", options, dtype, spec.head)
    else:
        module = load_weights.load_module(
            directory, "seq2seq", device=options.device, dtype=dtype, pickled=spec.pickled
        )
    _check_output_layer(module, base)
    folder = tokenizer_folder(directory, spec, options)
    tokenizer = TextTokenizer.from_directory(folder, parse_special_tokens=options.parse_special_tokens)
    return EncoderDecoderScorer(module, tokenizer, spec, execution=Execution.of(options), options=options.model)


def _check_output_layer(module: Any, directory: Path) -> None:
    """Refuse an output layer that config.json does not tie to the embeddings and that the files do not have.

    transformers ties T5's output layer in either case, so a missing one is not among its missing weights. T5 scales the
    hidden states only before a tied one, so the logits would be those of no model.

    Raises:
        CheckpointError: the output layer is missing.
    """
    settings = read_json(directory / "config.json")
    untied = settings.get("tie_word_embeddings") is False or settings.get("scale_decoder_outputs") is False
    layer = module.get_output_embeddings()
    if untied and layer is not None and layer.weight.data_ptr() == module.get_input_embeddings().weight.data_ptr():
        raise CheckpointError(
            f"{directory} has no lm_head.weight, and its config.json does not tie it to the embeddings; its scores "
            "would be random. Is this a base model without its output layer?"
        )
