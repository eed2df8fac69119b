"""Writes tiny encoder checkpoints: random weights and a real tokenizer, in the file layout of transformers.

Tests load them in place of real weights: they exercise the same code in under a megabyte. The weights depend only on
the seed, and are large enough for scores to differ by far more than rounding errors.
"""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Family", "empty_unigram", "tiny_cross_encoder", "tiny_encoder", "tiny_tokenizer", "word_pieces"]

Family: TypeAlias = Literal["xlm-roberta", "bert"]

# Special tokens in the order of their ids, from 0; XLM-RoBERTa's <mask> is the last of the vocabulary instead.
_SPECIALS: dict[Family, tuple[str, ...]] = {
    "xlm-roberta": ("<s>", "<pad>", "</s>", "<unk>"),
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
}
_ROLES: dict[Family, dict[str, str]] = {
    "xlm-roberta": {
        "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
        "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>",
    },
    "bert": {
        "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]",
    },
}  # fmt: skip

# Vocabulary of the tiny tokenizers: the longest substring, and the number of substrings beside single characters.
_LONGEST_PIECE = 6
_PIECES = 600
_CORPUS = (
    "What is a panda? The giant panda is a bear native to the mountains of central China.",
    "A reranker reads a query and a document together and gives one score; the best document comes first.",
    "Bamboo makes up most of what a panda eats, although it will eat birds, fish and eggs too.",
    "Long documents are cut into passages, and the score of a document is that of its best passage.",
    "The capital of France is Paris. In 1998 it hosted the final of the world cup.",
    "大熊猫是什么动物？大熊猫是中国特有的熊科动物，生活在山区的竹林里。",
    "熊猫每天吃很多竹子，也吃鱼、鸟和蛋。重排模型给每个文档打分，分数最高的排在最前面。",
    "长文档会被切成段落，文档的分数就是最好的段落的分数。法国的首都是巴黎。",
    "🐼 🎋 🚀 ✅ 😀 👍🏽 👨‍👩‍👧‍👦",
)
_ASCII = "".join(map(chr, range(33, 127)))


def tiny_cross_encoder(
    directory: str | PathLike[str],
    family: Family = "xlm-roberta",
    *,
    tokenizer: str | PathLike[str] | None = None,
    layers: int = 2,
    hidden: int = 32,
    positions: int | None = None,
    types: int | None = None,
    labels: int = 1,
    head: bool = True,
    seed: int = 0,
    std: float = 0.3,
) -> Path:
    """Write a cross-encoder checkpoint: a sequence classifier and its tokenizer.

    Args:
        directory: where to write; created if needed.
        family: architecture, ``xlm-roberta`` or ``bert``.
        tokenizer: a ``tokenizer.json``, or a directory with one, to copy; by default `tiny_tokenizer`.
        layers: number of transformer layers.
        hidden: size of the hidden states; one attention head per 16.
        positions: number of position embeddings; by default 514 for XLM-RoBERTa, of which 512 are usable, and 512 for
            BERT.
        types: number of token types; by default 1 for XLM-RoBERTa and 2 for BERT.
        labels: number of outputs; 1 for a reranker. With several, named ``LABEL_0`` and so on, ``load`` needs the
            option ``label``.
        head: False omits the weights of the score head, so that ``load`` must refuse the checkpoint.
        seed: seed of the random weights.
        std: standard deviation of the random weights.

    Returns:
        the directory.
    """
    from transformers import AutoModelForSequenceClassification

    config = _config(Path(directory), family, tokenizer, layers, hidden, positions, types, std, num_labels=labels)
    _save(AutoModelForSequenceClassification, config, Path(directory), seed, without=None if head else "classifier.")
    return Path(directory)


def tiny_encoder(
    directory: str | PathLike[str],
    family: Family = "bert",
    *,
    tokenizer: str | PathLike[str] | None = None,
    layers: int = 2,
    hidden: int = 32,
    positions: int | None = None,
    types: int | None = None,
    seed: int = 0,
    std: float = 0.3,
) -> Path:
    """Write an encoder without a score head and its tokenizer: a late-interaction model, or one to refuse.

    The arguments are those of `tiny_cross_encoder`.

    Returns:
        the directory.
    """
    from transformers import AutoModel

    config = _config(Path(directory), family, tokenizer, layers, hidden, positions, types, std)
    _save(AutoModel, config, Path(directory), seed)
    return Path(directory)


def tiny_tokenizer(family: Family = "xlm-roberta") -> Tokenizer:
    """A tokenizer with the components of the family's own, and a vocabulary from a few English and Chinese sentences.

    ``xlm-roberta``: Unigram with Metaspace and the pair template ``<s> A </s></s> B </s>``; its special tokens are also
    pieces of the Unigram vocabulary. ``bert``: uncased WordPiece and ``[CLS] A [SEP] B [SEP]`` with token types.
    """
    return _unigram() if family == "xlm-roberta" else _wordpiece()


def empty_unigram() -> Tokenizer:
    """A Unigram tokenizer with Metaspace, as SentencePiece's of XLM-R and T5, without a vocabulary."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def _unigram() -> Tokenizer:
    from tokenizers import AddedToken, models

    tokenizer = empty_unigram()
    pieces = word_pieces(tokenizer)
    total = math.log(sum(pieces.values()))
    vocab = [(special, 0.0) for special in _SPECIALS["xlm-roberta"]]
    vocab += [(piece, math.log(count) - total) for piece, count in pieces.items()]
    vocab.append(("<mask>", 0.0))
    tokenizer.model = models.Unigram(vocab, unk_id=3, byte_fallback=False)
    tokenizer.add_special_tokens([*_SPECIALS["xlm-roberta"], AddedToken("<mask>", lstrip=True, normalized=False)])
    tokenizer.post_processor = _template(tokenizer, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ("<s>", "</s>"))
    return tokenizer


def _wordpiece() -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    pieces = word_pieces(tokenizer)
    words = [*_SPECIALS["bert"], *pieces, *("##" + piece for piece in pieces)]
    tokenizer.model = models.WordPiece({word: id_ for id_, word in enumerate(words)}, unk_token="[UNK]")
    tokenizer.add_special_tokens(list(_SPECIALS["bert"]))
    tokenizer.post_processor = _template(tokenizer, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ("[CLS]", "[SEP]"))
    return tokenizer


def word_pieces(tokenizer: Tokenizer) -> dict[str, int]:
    """All characters, then the substrings of the corpus's words that save most characters, with their counts.

    The trainers of ``tokenizers`` are not used because their vocabulary differs from run to run.
    """
    counts: Counter[str] = Counter(_ASCII if tokenizer.normalizer.normalize_str("A") == "A" else _ASCII.lower())
    characters = set(counts)
    for line in _CORPUS:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(line)):
            characters.update(word)
            counts.update(
                word[start:stop]
                for start in range(len(word))
                for stop in range(start + 1, min(len(word), start + _LONGEST_PIECE) + 1)
            )
    best = sorted(counts, key=lambda piece: (-counts[piece] * len(piece), piece))[:_PIECES]
    return {piece: counts[piece] for piece in [*sorted(characters), *(p for p in best if p not in characters)]}


def _template(tokenizer: Tokenizer, single: str, pair: str, specials: tuple[str, ...]) -> Any:
    from tokenizers.processors import TemplateProcessing

    ids = [(special, tokenizer.token_to_id(special)) for special in specials]
    return TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def _config(
    directory: Path,
    family: Family,
    tokenizer: str | PathLike[str] | None,
    layers: int,
    hidden: int,
    positions: int | None,
    types: int | None,
    std: float,
    **extra: Any,
) -> Any:
    """Write the tokenizer, and build a model configuration that matches it."""
    from transformers import AutoConfig

    from rerank_core.backends.tokenizer import largest_id

    if positions is None:
        positions = 514 if family == "xlm-roberta" else 512
    usable = positions - 2 if family == "xlm-roberta" else positions
    written = _write_tokenizer(directory, family, tokenizer, usable)
    special_ids = {name: written.token_to_id(token) for name, token in _ROLES[family].items()}
    return AutoConfig.for_model(
        family,
        vocab_size=largest_id(written) + 1,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=max(1, hidden // 16),
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=types or (1 if family == "xlm-roberta" else 2),
        initializer_range=std,
        pad_token_id=special_ids["pad_token"],
        bos_token_id=special_ids.get("bos_token"),
        eos_token_id=special_ids.get("eos_token"),
        **extra,
    )


def _write_tokenizer(directory: Path, family: Family, source: str | PathLike[str] | None, max_length: int) -> Tokenizer:
    from tokenizers import Tokenizer

    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "tokenizer.json"
    if source is None:
        tiny_tokenizer(family).save(str(file))
    else:
        path = Path(source)
        shutil.copyfile(path / "tokenizer.json" if path.is_dir() else path, file)
    inputs = ["input_ids", *(["token_type_ids"] if family == "bert" else []), "attention_mask"]
    # PreTrainedTokenizerFast uses tokenizer.json unchanged; the tokenizer classes of the families rebuild parts of it.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": inputs,
        **_ROLES[family],
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Tokenizer.from_file(str(file))


def _save(auto: Any, config: Any, directory: Path, seed: int, without: str | None = None) -> None:
    """Draw random weights and save them, without changing torch's global seed or transformers' logging.

    Args:
        auto: an ``AutoModel`` class of transformers.
        without: prefix of the names of weights that are omitted.
    """
    import torch

    from rerank_core.backends.torch.load_weights import quiet

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = auto.from_config(config)
    weights = model.state_dict()
    if without is not None:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith(without)}
    with quiet():
        model.save_pretrained(str(directory), state_dict=weights)
