"""Tiny checkpoints with random weights and a real tokenizer, in the layout that transformers saves.

What a plugin's tests load where real weights would be too big: every code path of a real checkpoint in under a
megabyte. The weights are drawn from a seed, with a spread that lets scores differ well beyond rounding.
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

__all__ = ["Family", "tiny_cross_encoder", "tiny_encoder", "tiny_tokenizer"]

Family: TypeAlias = Literal["xlm-roberta", "bert"]

# Special tokens in the order of their ids; XLM-R's mask stands at the end of its vocabulary.
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
    """Write a sequence classifier and its tokenizer into a directory, and return the directory.

    Args:
        tokenizer: a ``tokenizer.json``, or a directory with one, to copy; by default `tiny_tokenizer`.
        positions: rows of the position table; by default the family's (XLM-R 514, of which 512 are usable).
        types: token types; by default the family's (XLM-R 1, BERT 2).
        labels: 1 for a reranker; anything else is a checkpoint to refuse.
        head: False leaves the classifier's weights out, as if it had never been trained.
        std: of the normal distribution that weights are drawn from.
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
    """Write a bare encoder, with no score head, and its tokenizer: for late interaction, or to be refused.

    Args: see `tiny_cross_encoder`.
    """
    from transformers import AutoModel

    config = _config(Path(directory), family, tokenizer, layers, hidden, positions, types, std)
    _save(AutoModel, config, Path(directory), seed)
    return Path(directory)


def tiny_tokenizer(family: Family = "xlm-roberta") -> Tokenizer:
    """A tokenizer built like the family's own, over a small corpus of English, Chinese and emoji.

    ``xlm-roberta``: Unigram over Metaspace, ``<s> A </s></s> B </s>``, and special tokens that are pieces of the
    unigram vocabulary too. ``bert``: uncased WordPiece, ``[CLS] A [SEP] B [SEP]`` with token types.
    """
    return _unigram() if family == "xlm-roberta" else _wordpiece()


def _unigram() -> Tokenizer:
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    shape = Tokenizer(models.Unigram())
    shape.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    shape.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    shape.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    pieces = _pieces(shape)
    total = math.log(sum(pieces.values()))
    vocab = [(special, 0.0) for special in _SPECIALS["xlm-roberta"]]
    vocab += [(piece, math.log(count) - total) for piece, count in pieces.items()]
    vocab.append(("<mask>", 0.0))
    shape.model = models.Unigram(vocab, unk_id=3, byte_fallback=False)
    shape.add_special_tokens([*_SPECIALS["xlm-roberta"], AddedToken("<mask>", lstrip=True, normalized=False)])
    shape.post_processor = _template(shape, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ("<s>", "</s>"))
    return shape


def _wordpiece() -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    shape = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    shape.normalizer = normalizers.BertNormalizer(lowercase=True)
    shape.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    shape.decoder = decoders.WordPiece()
    pieces = _pieces(shape)
    words = [*_SPECIALS["bert"], *pieces, *("##" + piece for piece in pieces)]
    shape.model = models.WordPiece({word: id_ for id_, word in enumerate(words)}, unk_token="[UNK]")
    shape.add_special_tokens(list(_SPECIALS["bert"]))
    shape.post_processor = _template(shape, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ("[CLS]", "[SEP]"))
    return shape


def _pieces(shape: Tokenizer) -> dict[str, int]:
    """Characters and frequent substrings of the corpus's words with their counts, the most useful first.

    Counted here because the trainers of ``tokenizers`` give another vocabulary in every run.
    """
    counts: Counter[str] = Counter(_ASCII if shape.normalizer.normalize_str("A") == "A" else _ASCII.lower())
    characters = set(counts)
    for line in _CORPUS:
        for word, _ in shape.pre_tokenizer.pre_tokenize_str(shape.normalizer.normalize_str(line)):
            characters.update(word)
            counts.update(
                word[start:stop]
                for start in range(len(word))
                for stop in range(start + 1, min(len(word), start + _LONGEST_PIECE) + 1)
            )
    best = sorted(counts, key=lambda piece: (-counts[piece] * len(piece), piece))[:_PIECES]
    return {piece: counts[piece] for piece in [*sorted(characters), *(p for p in best if p not in characters)]}


def _template(shape: Tokenizer, single: str, pair: str, specials: tuple[str, ...]) -> Any:
    from tokenizers.processors import TemplateProcessing

    ids = [(special, shape.token_to_id(special)) for special in specials]
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
    **more: Any,
) -> Any:
    """Write the tokenizer, and make the configuration of a model that fits it."""
    from transformers import AutoConfig

    if positions is None:
        positions = 514 if family == "xlm-roberta" else 512
    usable = positions - 2 if family == "xlm-roberta" else positions
    saved = _write_tokenizer(directory, family, tokenizer, usable)
    known = {name: saved.token_to_id(token) for name, token in _ROLES[family].items()}
    return AutoConfig.for_model(
        family,
        vocab_size=max(saved.get_vocab(with_added_tokens=True).values()) + 1,
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=max(1, hidden // 16),
        intermediate_size=2 * hidden,
        max_position_embeddings=positions,
        type_vocab_size=types or (1 if family == "xlm-roberta" else 2),
        initializer_range=std,
        pad_token_id=known["pad_token"],
        bos_token_id=known.get("bos_token"),
        eos_token_id=known.get("eos_token"),
        **more,
    )


def _write_tokenizer(directory: Path, family: Family, given: str | PathLike[str] | None, usable: int) -> Tokenizer:
    from tokenizers import Tokenizer

    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "tokenizer.json"
    if given is None:
        tiny_tokenizer(family).save(str(file))
    else:
        source = Path(given) / "tokenizer.json" if Path(given).is_dir() else Path(given)
        shutil.copyfile(source, file)
    inputs = ["input_ids", *(["token_type_ids"] if family == "bert" else []), "attention_mask"]
    # PreTrainedTokenizerFast reads tokenizer.json as it is; the families' own classes rebuild parts of it.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": usable,
        "model_input_names": inputs,
        **_ROLES[family],
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return Tokenizer.from_file(str(file))


def _save(auto: Any, config: Any, directory: Path, seed: int, without: str | None = None) -> None:
    """Draw the weights and save them, leaving torch's seed and transformers' logging as they were."""
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
