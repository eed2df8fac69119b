"""The tokenizer of multilingual-e5-small (XLM-R's), made from the vocabulary in the 4-bit file."""

from __future__ import annotations

import re

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from rerank_mini.e5_file import E5File

__all__ = ["tokenizer_of"]

# SentencePiece's nmt_nfkc keeps the fullwidth tilde, which NFKC would make a "~". While NFKC runs, a noncharacter,
# which no text should hold, stands for it.
_KEPT, _STAND_IN = "\uff5e", "\ufdd0"


def tokenizer_of(file: E5File) -> Tokenizer:
    """A unigram tokenizer with XLM-R's normalisation (SentencePiece's nmt_nfkc) and its layout ``<s> text </s>``."""
    ids = file.settings
    pieces = file.pieces()
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ids.unk, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(
                normalizers.Replace(Regex(_any_of(characters)), replacement)
                for characters, replacement in ((file.deleted, ""), (file.spaces, " "))
                if characters  # an empty class is no regular expression
            ),
            normalizers.Replace(_KEPT, _STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _KEPT),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    bos, eos = (pieces[number][0] for number in (ids.bos, ids.eos))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} {eos} $B {eos}",
        special_tokens=[(bos, ids.bos), (eos, ids.eos)],
    )
    special = [pieces[number][0] for number in (ids.bos, ids.pad, ids.eos, ids.unk)]
    if pieces[-1][0] == "<mask>":
        special.append("<mask>")
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in special])
    return tokenizer


def _any_of(characters: str) -> str:
    return "[" + "".join(re.escape(character) for character in characters) + "]"
