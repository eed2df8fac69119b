"""Scripts of texts and languages: which letters count, and which languages use them."""

from __future__ import annotations

import pytest

from rerank_core.pipeline.letters import SCRIPTS, SPARSE_SCRIPTS, letters_of, scripts_of


@pytest.mark.parametrize(
    ("text", "letters"),
    [
        ("what is a panda?", {"Latin": 12}),
        ("Größe, naïve", {"Latin": 10}),
        ("大熊猫吃什么？", {"Chinese (Han)": 18}),
        ("パンダは何を食べますか", {"Japanese (kana)": 27, "Chinese (Han)": 6}),
        ("판다는 무엇을 먹나요", {"Korean (Hangul)": 27}),
        ("что ест панда", {"Cyrillic": 11}),
        ("ماذا يأكل", {"Arabic": 8}),
        ("เสือ", {"Thai": 3}),  # the vowel above is a mark, no letter
        ("ｐａｎｄａ ﾊﾟ", {"Latin": 5, "Japanese (kana)": 3}),
        ("α-Synuclein", {"Greek": 1, "Latin": 9}),
        ("RAG 里的重排模型", {"Latin": 3, "Chinese (Han)": 18}),
        ("བོད་", {"Tibetan": 2}),
        ("12.5 % 🐼 → ²", {}),
        ("", {}),
    ],
)
def test_letters_are_counted_by_script(text: str, letters: dict[str, int]) -> None:
    """Counted by hand: a letter counts once, a Chinese, Japanese or Korean character three times, other signs never."""
    assert {script: count for script, count in letters_of(text).items() if count} == letters


@pytest.mark.parametrize(
    ("languages", "scripts"),
    [
        (("en",), {"Latin"}),
        (("zh", "en"), {"Latin", "Chinese (Han)"}),
        (("zh", "en", "ja", "ko"), {"Latin", "Chinese (Han)", "Japanese (kana)", "Korean (Hangul)"}),
        (("ja",), {"Japanese (kana)", "Chinese (Han)"}),
        (("pt-BR", "zh_Hans", "RU"), {"Latin", "Chinese (Han)", "Cyrillic"}),
        (("sr",), {"Latin", "Cyrillic"}),
    ],
)
def test_languages_are_written_in_scripts(languages: tuple[str, ...], scripts: set[str]) -> None:
    """By ISO 639 code, with or without a region."""
    assert scripts_of(languages) == scripts


@pytest.mark.parametrize("languages", [(), ("multilingual",), ("zh", "en", "multilingual"), ("en", "klingon")])
def test_languages_that_decide_nothing(languages: tuple[str, ...]) -> None:
    """No language, many languages, or an unknown code: any script may be read."""
    assert scripts_of(languages) is None


def test_every_script_has_a_language() -> None:
    """A language of each script is known, so that a model for it is not warned of its own texts; some scripts of
    `SPARSE_SCRIPTS` are the exception."""
    from rerank_core.pipeline.letters import _LANGUAGES

    used = {word for words in _LANGUAGES for word in words.split()}
    assert {SCRIPTS[word] for word in used if word in SCRIPTS} == set(SCRIPTS.values())
    assert used <= {*SCRIPTS, *SPARSE_SCRIPTS}
