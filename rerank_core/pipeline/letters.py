"""The scripts of texts and of languages, decided by letters: Latin, Han, Cyrillic and so on."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable

__all__ = ["LATIN", "SCRIPTS", "SPARSE_SCRIPTS", "letters_of", "scripts_of"]

LATIN = "Latin"

# A letter's script by the first word of its name in Unicode. Multilingual models of XLM-R's family have many pieces of
# these scripts.
SCRIPTS = {
    "LATIN": LATIN,
    "CJK": "Chinese (Han)",
    "IDEOGRAPHIC": "Chinese (Han)",
    "BOPOMOFO": "Chinese (Han)",
    "HIRAGANA": "Japanese (kana)",
    "KATAKANA": "Japanese (kana)",
    "KATAKANA-HIRAGANA": "Japanese (kana)",
    "HANGUL": "Korean (Hangul)",
    "CYRILLIC": "Cyrillic",
    "ARABIC": "Arabic",
    "DEVANAGARI": "Devanagari",
    "THAI": "Thai",
    "GREEK": "Greek",
    "HEBREW": "Hebrew",
    "ARMENIAN": "Armenian",
    "BENGALI": "Bengali",
    "ETHIOPIC": "Ethiopic",
    "GEORGIAN": "Georgian",
    "GUJARATI": "Gujarati",
    "GURMUKHI": "Gurmukhi",
    "KANNADA": "Kannada",
    "KHMER": "Khmer",
    "LAO": "Lao",
    "MALAYALAM": "Malayalam",
    "MYANMAR": "Burmese",
    "ORIYA": "Odia",
    "SINHALA": "Sinhala",
    "TAMIL": "Tamil",
    "TELUGU": "Telugu",
}
# Scripts that these models hardly know: their vocabularies have a few pieces of them or none.
SPARSE_SCRIPTS = {
    "CANADIAN": "Canadian syllabics",
    "CHEROKEE": "Cherokee",
    "MONGOLIAN": "Mongolian",
    "SYRIAC": "Syriac",
    "THAANA": "Thaana",
    "TIBETAN": "Tibetan",
    "TIFINAGH": "Tifinagh",
    "YI": "Yi",
}
_ALL = {**SCRIPTS, **SPARSE_SCRIPTS}

# Characters of these scripts stand for a syllable or a word, so one of them counts as three letters: "RAG 里的重排模型"
# is Chinese, although it has more Latin letters than a Latin text would need for these words.
_LARGE = {"Chinese (Han)", "Japanese (kana)", "Korean (Hangul)"}
_LARGE_WEIGHT = 3

# ISO 639 codes of languages by the first words of `SCRIPTS`.
_LANGUAGES = {
    "LATIN": "af az br bs ca code cs cy da de en eng eo es et eu fi fil fr fy ga gd gl ha hr ht hu id is it jv la lb "
    "lt lv mg mi ms mt nb nl nn no oc om pl pt ro sk sl so sq su sv sw tl tr uz vi xh yo zu",
    "CYRILLIC": "ba be bg kk ky mk mn ru tg tt uk",
    "LATIN CYRILLIC": "sh sr",
    "CJK": "cmn lzh wuu yue zh zho",
    "HIRAGANA CJK": "ja jpn",
    "HANGUL CJK": "ko kor",
    "ARABIC": "ar ara ckb fa ps sd ug ur",
    "LATIN ARABIC": "ku",
    "DEVANAGARI": "bho hi hin mai mr ne sa",
    "BENGALI": "as bn",
    "ETHIOPIC": "am ti",
    "HEBREW": "he iw yi",
    "GURMUKHI": "pa",
    "GREEK": "el",
    "ARMENIAN": "hy",
    "GEORGIAN": "ka",
    "GUJARATI": "gu",
    "KANNADA": "kn",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAI": "th",
    "THAANA": "dv",
    "TIBETAN": "bo dz",
}
_SCRIPTS_OF = {
    code: {_ALL[word] for word in words.split()} for words, codes in _LANGUAGES.items() for code in codes.split()
}


def scripts_of(languages: Iterable[str]) -> frozenset[str] | None:
    """The scripts that texts in these languages are written in.

    Args:
        languages: ISO 639 codes, with or without a region (``zh``, ``pt-BR``).

    Returns:
        None where every script may be one of them: no language is given, ``multilingual`` is, or a code is not known.
    """
    codes = [language.lower().replace("_", "-").partition("-")[0] for language in languages]
    if not codes or any(code not in _SCRIPTS_OF for code in codes):
        return None
    return frozenset[str]().union(*(_SCRIPTS_OF[code] for code in codes))


def letters_of(text: str) -> Counter[str]:
    """How many letters of each script a text has; a Chinese, Japanese or Korean character counts as three letters.

    Digits, signs, emoji, and letters of scripts that are not in these tables do not count. Compatibility forms, such as
    fullwidth letters, count as the letters that they stand for (NFKC).
    """
    found: Counter[str] = Counter()
    if text.isascii():
        found[LATIN] = sum(map(str.isalpha, text))
        return found
    for character, count in Counter(unicodedata.normalize("NFKC", text)).items():
        script = _script_of_letter(character)
        if script is not None:
            found[script] += count * (_LARGE_WEIGHT if script in _LARGE else 1)
    return found


@functools.lru_cache(maxsize=1 << 14)
def _script_of_letter(character: str) -> str | None:
    if not character.isalpha():
        return None
    return _ALL.get(unicodedata.name(character, "").partition(" ")[0])
