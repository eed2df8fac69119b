"""BM25: the published formula, words and pairs of CJK characters."""

from __future__ import annotations

import math
import sys

import pytest

from rerank_core import MissingDependencyError
from rerank_core.measures import BM25, terms

PANDAS = (
    "The giant panda eats bamboo for fourteen hours a day.",
    "A red panda eats bamboo too, and fruit.",
    "Bamboo grows up to a metre a day.",
    "大熊猫每天吃很多竹子。",
    "竹子长得很快。",
    "My bicycle has a flat tyre.",
    "A flat tyre is mended with a patch.",
    "What does a bicycle cost?",
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The Panda's 2 cubs, BM25-like", ["the", "panda", "s", "2", "cubs", "bm25", "like"]),
        ("大熊猫吃竹子。", ["大熊", "熊猫", "猫吃", "吃竹", "竹子"]),
        ("熊, ＢＭ２５是什么", ["熊", "bm25", "是什", "什么"]),
        ("パンダ 한국어", ["パン", "ンダ", "한국", "국어"]),
        ("Café naïve_snake", ["café", "naïve", "snake"]),
        ("?! …", []),
    ],
)
def test_terms_are_words_and_pairs_of_cjk_characters(text: str, found: list[str]) -> None:
    """Words are lower-cased and whole, CJK runs become overlapping pairs, full-width letters are letters."""
    assert terms(text) == found


def test_bm25_is_the_formula() -> None:
    """Scores are those of the published formula in float64, repeated query terms and texts without terms included."""
    texts = [*PANDAS, "...", "panda panda panda bamboo"]
    for query in ("panda bamboo panda", "熊猫吃竹子", "nothing of this", "a day"):
        documents = [terms(text) for text in texts]
        mean = sum(map(len, documents)) / len(documents)
        expected = [
            sum(
                math.log(1 + (len(documents) - df + 0.5) / (df + 0.5))
                * document.count(term)
                / (document.count(term) + 0.9 * (1 - 0.4 + 0.4 * len(document) / mean))
                for term in terms(query)
                if (df := sum(term in other for other in documents))
            )
            for document in documents
        ]
        assert BM25(texts).scores(query).tolist() == pytest.approx(expected, abs=1e-5)


def test_bm25_of_texts_without_any_term_is_zero() -> None:
    """A corpus of punctuation is searched in vain, without an error."""
    assert BM25(["...", "!"]).scores("panda").tolist() == [0, 0]


def test_bm25_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without bm25s the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rerank-core\[eval\]'"):
        BM25(PANDAS)
