"""`with_bert_settings`: how a BERT tokenizer treats capitals, accents and Chinese characters.

transformers (4 and 5) takes these settings of its BERT classes from tokenizer_config.json, also where tokenizer.json
says otherwise, so the model was trained and measured with them.
"""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.normalizers import BertNormalizer

from rerank_core.spec.untrusted_files import JsonObject, optional_json

__all__ = ["with_bert_settings"]

# Classes of transformers that set a BertNormalizer from their arguments, without "Fast".
_CLASSES = frozenset(
    f"{name}Tokenizer"
    for name in ("Bert", "ConvBert", "DistilBert", "Electra", "Funnel", "MPNet", "MobileBert", "SqueezeBert")
)
# Model types with such a class, which a folder without the name of one has.
_MODEL_TYPES = frozenset(
    ("bert", "convbert", "distilbert", "electra", "ernie", "funnel", "mobilebert", "mpnet", "nomic_bert", "squeezebert")
)
_SETTINGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")


def with_bert_settings(tokenizer: Tokenizer, directory: Path) -> Tokenizer:
    """The tokenizer with the settings of the folder's tokenizer_config.json, where transformers follows them.

    Raises:
        CheckpointError: a setting that is neither true, false nor null.
    """
    normalizer = tokenizer.normalizer
    settings = optional_json(directory / "tokenizer_config.json")
    if not isinstance(normalizer, BertNormalizer) or not _is_bert(settings, directory):
        return tokenizer
    strips = None if settings.get("strip_accents") is None else settings.of("strip_accents", bool, False)
    wanted = (settings.of("do_lower_case", bool, True), strips, settings.of("tokenize_chinese_chars", bool, True))
    if wanted != (normalizer.lowercase, normalizer.strip_accents, normalizer.handle_chinese_chars):
        lowercase, strip_accents, chinese = wanted
        tokenizer.normalizer = BertNormalizer(
            clean_text=normalizer.clean_text,
            handle_chinese_chars=chinese,
            strip_accents=strip_accents,
            lowercase=lowercase,
        )
    return tokenizer


def _is_bert(settings: JsonObject, directory: Path) -> bool:
    """Whether transformers opens the folder's tokenizer with one of these classes, from the settings of
    tokenizer_config.json."""
    name = settings.of("tokenizer_class", str, "")
    model_type = optional_json(directory / "config.json").of("model_type", str, "")
    if name:
        # For ModernBERT transformers 5 opens tokenizer.json, whatever class is named.
        return name.removesuffix("Fast") in _CLASSES and model_type != "modernbert"
    # Without the name of a class and without its settings, tokenizer.json is all that the folder says.
    return bool(set(_SETTINGS) & set(settings)) and model_type in _MODEL_TYPES
