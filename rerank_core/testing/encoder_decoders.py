"""Writes tiny encoder-decoders: random weights, and a tokenizer with the components of T5's."""

from __future__ import annotations

import json
import math
import shutil
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from rerank_core.testing.checkpoints import empty_unigram, word_pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["EncoderDecoder", "tiny_encoder_decoder", "tiny_t5_tokenizer"]

EncoderDecoder: TypeAlias = Literal["t5", "flan-t5", "mt5", "t5gemma"]

_SPECIALS = ("<pad>", "</s>", "<unk>")
_LABELS = ("true", "false", "yes", "no")
_SENTINELS = 12


def tiny_encoder_decoder(
    directory: str | PathLike[str],
    family: EncoderDecoder = "t5",
    *,
    tokenizer: str | PathLike[str] | None = None,
    layers: int = 2,
    hidden: int = 32,
    seed: int = 0,
    pickled: bool = False,
    **config: Any,
) -> Path:
    """Write an encoder-decoder and its tokenizer.

    Args:
        directory: where to write; created if needed.
        family: ``t5`` with tied embeddings, as monoT5; ``flan-t5`` and ``mt5`` with an output layer of their own;
            ``t5gemma`` with soft caps, and a window of 16 tokens in every other layer.
        tokenizer: a ``tokenizer.json``, or a directory with one, to copy; by default `tiny_t5_tokenizer`.
        layers: number of layers of the encoder, and of the decoder.
        hidden: size of the hidden states.
        seed: seed of the random weights.
        pickled: write ``pytorch_model.bin`` instead of safetensors, as publishers did until 2023.
        config: further settings of the model's configuration; for ``t5gemma`` those of encoder and decoder.

    Returns:
        the directory.
    """
    import torch

    from rerank_core.backends.torch.load_weights import quiet

    directory = Path(directory)
    size = _write_tokenizer(directory, tokenizer)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.default_generator.manual_seed(seed)
        model = _model(family, size, layers, hidden, config)
        model.save_pretrained(str(directory))
    if pickled:
        torch.save(model.state_dict(), directory / "pytorch_model.bin")
        (directory / "model.safetensors").unlink()
    return directory


def tiny_t5_tokenizer() -> Tokenizer:
    """A Unigram tokenizer with Metaspace, as T5's: ``<pad>``, ``</s>`` and ``<unk>`` first, ``<extra_id_0>`` last, and
    the words true, false, yes and no as whole tokens."""
    from tokenizers import models
    from tokenizers.processors import TemplateProcessing

    tokenizer = empty_unigram()
    pieces = word_pieces(tokenizer)
    total = math.log(sum(pieces.values()))
    vocabulary = [(token, 0.0) for token in _SPECIALS]
    vocabulary += [(piece, math.log(count) - total) for piece, count in pieces.items()]
    vocabulary += [(f"▁{label}", -1.0) for label in _LABELS if f"▁{label}" not in pieces]
    sentinels = [f"<extra_id_{number}>" for number in reversed(range(_SENTINELS))]
    vocabulary += [(token, 0.0) for token in sentinels]
    tokenizer.model = models.Unigram(vocabulary, unk_id=2, byte_fallback=False)
    tokenizer.add_special_tokens([*_SPECIALS, *sentinels])
    tokenizer.post_processor = TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer


def _model(family: EncoderDecoder, size: int, layers: int, hidden: int, config: dict[str, Any]) -> Any:
    """A random model of a family."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    heads = max(1, hidden // 16)
    if family == "t5gemma":
        part = {
            "vocab_size": size,
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": 2 * heads,
            "num_key_value_heads": heads,
            "head_dim": hidden // heads // 2,
            "query_pre_attn_scalar": hidden // heads // 2,
            "sliding_window": 16,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
            "max_position_embeddings": 1024,
            "initializer_range": 0.3,
            "bos_token_id": 1,
            "eos_token_id": 1,
            **config,
        }
        settings = AutoConfig.for_model("t5gemma", encoder=dict(part), decoder=dict(part), vocab_size=size)
        return AutoModelForSeq2SeqLM.from_config(settings)
    tied = family == "t5"
    kinds = {} if tied else {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    settings = AutoConfig.for_model(
        "mt5" if family == "mt5" else "t5",
        **{
            "vocab_size": size,
            "d_model": hidden,
            "d_kv": hidden // heads,
            "d_ff": 2 * hidden,
            "num_layers": layers,
            "num_heads": heads,
            "decoder_start_token_id": 0,
            **kinds,
            **config,
        },
    )
    model = AutoModelForSeq2SeqLM.from_config(settings)
    if not tied:
        # transformers ties the output layer of a new T5 in any case; published ones of these families are not tied.
        model.lm_head.weight = torch.nn.Parameter(torch.randn(size, hidden))
    return model


def _write_tokenizer(directory: Path, source: str | PathLike[str] | None) -> int:
    """Write the files of a tokenizer, and return the size of its vocabulary."""
    from tokenizers import Tokenizer

    from rerank_core.backends.tokenizer import largest_id

    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "tokenizer.json"
    if source is None:
        tiny_t5_tokenizer().save(str(file))
    else:
        path = Path(source)
        shutil.copyfile(path / "tokenizer.json" if path.is_dir() else path, file)
    # PreTrainedTokenizerFast uses tokenizer.json unchanged; T5Tokenizer rebuilds parts of it.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return largest_id(Tokenizer.from_file(str(file))) + 1
