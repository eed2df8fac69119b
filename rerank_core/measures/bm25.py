"""BM25 for texts in any language, through the bm25s package."""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rerank_core.measures.libraries import needed_for

if TYPE_CHECKING:
    import numpy

__all__ = ["BM25", "terms"]

# Kana, Han and Hangul, which are cut into bigrams as in Lucene's CJKAnalyzer.
_CJK = "\u3005\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_RUN = re.compile(rf"([{_CJK}]+)|((?:(?![{_CJK}])[^\W_])+)")


def terms(text: str) -> list[str]:
    """Lower-cased words and overlapping bigrams of CJK characters, without stemming or stop words.

    >>> terms("BM25 是什么?")
    ['bm25', '是什', '什么']
    """
    result: list[str] = []
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text).lower()):
        cjk, word = run.groups()
        if word is not None:
            result.append(word)
        elif len(cjk) == 1:
            result.append(cjk)
        else:
            result.extend(cjk[start : start + 2] for start in range(len(cjk) - 1))
    return result


class BM25:
    """Lucene's BM25 (Kamphuis et al., *Which BM25 do you mean?*, 2020) with Anserini's k1 and b.

    ``sum over the query's terms of log(1 + (N - df + .5)/(df + .5)) * tf / (tf + k1 (1 - b + b length/mean length))``;
    a term that occurs twice in the query counts twice. Memory: one float and one integer per distinct term of each
    text, and one float per text for a query.

    Raises:
        MissingDependencyError: bm25s is not installed.
    """

    # A text without a term of the query is not a search result.
    floor = 0.0

    def __init__(self, texts: Sequence[str], *, k1: float = 0.9, b: float = 0.4) -> None:
        with needed_for("searches with BM25"):
            import bm25s
        self._vocabulary: dict[str, int] = {}
        ids = [
            array("i", [self._vocabulary.setdefault(term, len(self._vocabulary)) for term in terms(text)])
            for text in texts
        ]
        self._size = len(texts)
        self._bm25: Any = bm25s.BM25(k1=k1, b=b, method="lucene")
        if self._vocabulary:
            self._bm25.index((ids, self._vocabulary), create_empty_token=False, show_progress=False)

    def scores(self, query: str, instruction: str | None = None) -> numpy.ndarray[Any, Any]:
        """``[texts]``: the score of each text, 0 without a common term. The instruction is not used."""
        known = [self._vocabulary[term] for term in terms(query) if term in self._vocabulary]
        if not known:
            import numpy

            return numpy.zeros(self._size, dtype="float32")
        scores: numpy.ndarray[Any, Any] = self._bm25.get_scores(known)
        return scores
