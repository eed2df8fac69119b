"""The model `mini-multilingual`: multilingual-e5-small (Wang et al., 2024), read from its 4-bit file."""

from __future__ import annotations

from typing import Any

import torch

from rerank_core import ModelSpec, Options
from rerank_core.backends.torch import TextTokenizer, TorchScorer, encoder_of, encoder_scorer, locate
from rerank_mini.e5_file import BLOCK, BLOCK_BYTES, E5File, open_e5, wrong
from rerank_mini.e5_tokenizer import tokenizer_of
from rerank_mini.four_bit_embedding import FourBitEmbedding, dequantized, scales

__all__ = ["FILE", "build", "encoder", "weights_of"]

FILE = "e5-small-q4.bin"

# Names in the file and in transformers' BERT.
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def build(spec: ModelSpec, options: Options) -> TorchScorer:
    """The factory of ``mini-multilingual``: for the 4-bit file, or with ``checkpoint=`` for a folder in the usual form,
    such as a fine-tuned copy."""
    directory = locate(spec, options)
    if (directory / FILE).is_file():
        file = open_e5(directory / FILE)
        tokenizer = TextTokenizer(tokenizer_of(file), parse_special_tokens=options.parse_special_tokens)
        module: torch.nn.Module = encoder(file)
        file.drop_pages()
    else:
        module, tokenizer = encoder_of(spec, options, directory)
    return encoder_scorer(module, tokenizer, spec, options)


def encoder(file: E5File) -> torch.nn.Module:
    """A ``BertModel`` in float32, without pooler, whose word embeddings stay in 4 bits.

    Raises:
        CheckpointError: a tensor that is missing or of another size.
    """
    from transformers import BertConfig, BertModel

    sizes = file.settings
    config = BertConfig(
        vocab_size=1,  # the word embeddings are replaced below
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.positions,
        type_vocab_size=sizes.token_types,
        layer_norm_eps=sizes.epsilon,
        pad_token_id=0,
    )
    state = weights_of(file)
    state["embeddings.word_embeddings.weight"] = torch.zeros(1, sizes.hidden)
    with torch.device("meta"):  # without memory and without random numbers, which the weights replace
        module: Any = BertModel(config, add_pooling_layer=False)
    module.load_state_dict(state, strict=True, assign=True)
    module.embeddings.position_ids = torch.arange(sizes.positions).unsqueeze(0)
    module.embeddings.token_type_ids = torch.zeros(1, sizes.positions, dtype=torch.int64)
    module.embeddings.word_embeddings = FourBitEmbedding(_table(file))
    module.config.vocab_size, module.config.pad_token_id = sizes.vocabulary, sizes.pad
    loaded: torch.nn.Module = module.eval()
    return loaded


def _names(file: E5File) -> dict[str, tuple[str, tuple[int, ...]]]:
    """For each weight of the BERT but the word embeddings, its name in the file and its shape."""
    sizes = file.settings
    width, inner = (sizes.hidden,), (sizes.intermediate,)
    names: dict[str, tuple[str, tuple[int, ...]]] = {
        "embeddings.position_embeddings.weight": ("emb.pos", (sizes.positions, sizes.hidden)),
        "embeddings.token_type_embeddings.weight": ("emb.type", (sizes.token_types, sizes.hidden)),
        "embeddings.LayerNorm.weight": ("emb.ln.w", width),
        "embeddings.LayerNorm.bias": ("emb.ln.b", width),
    }
    for layer in range(sizes.layers):
        for short, long in _LAYER.items():
            rows = inner if short == "fi" else width
            columns = () if short.endswith("ln") else inner if short == "fo" else width
            names[f"encoder.layer.{layer}.{long}.weight"] = (f"l{layer}.{short}.w", rows + columns)
            names[f"encoder.layer.{layer}.{long}.bias"] = (f"l{layer}.{short}.b", rows)
    return names


def weights_of(file: E5File) -> dict[str, torch.Tensor]:
    """The weights of the BERT but the word embeddings, in float32.

    Raises:
        CheckpointError: a tensor that is missing, of another size, or with NaN or infinity.
    """
    weights = {}
    for name, (key, shape) in _names(file).items():
        four_bits = key.startswith("l") and len(shape) == 2  # the matrices of the layers
        count = torch.Size(shape).numel()
        data = torch.frombuffer(bytearray(file.values(key, count, four_bits=four_bits)), dtype=torch.uint8)
        if four_bits:
            blocks = data.view(-1, BLOCK_BYTES)
            finite, weights[name] = scales(blocks), dequantized(blocks).view(shape)
        else:
            finite = weights[name] = data.view(torch.float32).view(shape)
        if not bool(torch.isfinite(finite).all()):
            raise wrong(file.path, f"holds NaN or infinity in {key!r}")
    return weights


def _table(file: E5File) -> torch.Tensor:
    """The word embeddings' 4-bit blocks, uint8 ``[vocabulary, bytes of a row]``, still in the mapped file."""
    sizes = file.settings
    blocks = file.values("emb.word", sizes.vocabulary * sizes.hidden, four_bits=True)
    return torch.frombuffer(blocks, dtype=torch.uint8).view(sizes.vocabulary, sizes.hidden // BLOCK * BLOCK_BYTES)
