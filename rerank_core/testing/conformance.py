"""The conformance suite: tests of what every reranker must do, to subclass in the tests of a plugin."""

from __future__ import annotations

import asyncio
import copy
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from rerank_core.errors import InputError
from rerank_core.index.protocols import Indexable
from rerank_core.pipeline.display import sigmoid
from rerank_core.planning.longdoc import MaxP
from rerank_core.plugins import registry
from rerank_core.reranker import Reranker
from rerank_core.scorer import Resumable, Scorer, is_listwise
from rerank_core.types import Ranking

__all__ = ["ScorerConformance"]

QUERY = "what does a panda eat?"

ODD_TEXTS = (
    "",
    " ",
    "\n\t\u3000",
    "a",
    "Pandas eat bamboo for most of the day.",
    "大熊猫主要以竹子为食。",
    "🐼🎋 👩‍👩‍👧‍👦",
    "الباندا يأكل الخيزران",
    "e\u0301 \u200d \ufeff \x00 \x1b[31m",
    "</s> <s> [SEP] [CLS] <|im_end|> <mask> <pad>",
    "half a pair: \ud83d",
    "Pandas eat bamboo for most of the day.",
)


class ScorerConformance:
    """Tests of what every reranker must do. Subclass it beside a fixture ``reranker`` that returns a loaded `Reranker`.

    Tests that do not apply to a model are skipped, for example invariance tests for listwise models. The fixture is
    loaded once if its scope is ``module`` or ``class``.

    Attributes:
        tolerance: largest difference of scores that must be equal, relative to ``max(1, |score|)``; 1e-5 suits
            float32. Override it in the subclass for lower precisions.
    """

    tolerance = 1e-5

    def assert_close(self, one: Sequence[float], other: Sequence[float]) -> None:
        """Assert that two lists of scores are equal up to the tolerance."""
        assert len(one) == len(other)
        worst = max((abs(a - b) / max(1.0, abs(a)) for a, b in zip(one, other, strict=True)), default=0.0)
        assert worst <= self.tolerance, f"scores differ by {worst:.2e}: {list(one)} and {list(other)}"

    def with_options(self, reranker: Reranker, **options: Any) -> Reranker:
        """A reranker with the same scorer and changed options of ``load``."""
        return Reranker(reranker.scorer, reranker.spec, replace(reranker.options, **options))

    def skip_if_listwise(self, reranker: Reranker) -> None:
        """Skip the test for a listwise model, whose scores depend on the whole list."""
        if is_listwise(reranker.scorer):
            pytest.skip("the scores of a listwise model depend on the whole list")

    def token_scorer(self, reranker: Reranker) -> Scorer:
        """The `Scorer` of a reranker; skips the test for a `TextScorer` or `ListRanker`, which has no token rows."""
        if not isinstance(reranker.scorer, Scorer):
            pytest.skip("this scorer has no token rows")
        return reranker.scorer

    # ------------------------------------------------------------------ results
    def test_ranking_is_sorted_and_complete(self, reranker: Reranker) -> None:
        """Every document is exactly one hit; hits are sorted by score, equal scores in the caller's order."""
        ranking = reranker.rerank(QUERY, ODD_TEXTS)
        assert sorted(hit.index for hit in ranking) == list(range(len(ODD_TEXTS)))
        assert [hit.rank for hit in ranking] == list(range(1, len(ODD_TEXTS) + 1))
        keys = [(-hit.score, hit.index) for hit in ranking]
        assert keys == sorted(keys)
        assert [ODD_TEXTS[hit.index] for hit in ranking] == [hit.document.text for hit in ranking]

    def test_scores_are_plain_floats_in_the_callers_order(self, reranker: Reranker) -> None:
        """`scores()` has one Python float per document, equal to the score of its hit."""
        ranking = reranker.rerank(QUERY, ODD_TEXTS)
        assert {type(score) for score in ranking.scores()} == {float}
        assert {hit.index: hit.score for hit in ranking} == dict(enumerate(ranking.scores()))

    def test_no_documents_is_an_empty_ranking(self, reranker: Reranker) -> None:
        """Ranking an empty list gives an empty `Ranking`."""
        ranking = reranker.rerank(QUERY, [])
        assert isinstance(ranking, Ranking)
        assert (list(ranking), ranking.scores()) == ([], [])

    def test_input_is_not_changed(self, reranker: Reranker) -> None:
        """The caller's list and mappings are not modified, and hits carry the ids and metadata."""
        documents: list[dict[str, object]] = [{"text": "bamboo", "id": 7, "source": {"page": 1}}, {"text": "rice"}]
        before = copy.deepcopy(documents)
        hits = {hit.index: hit for hit in reranker.rerank(QUERY, documents)}
        assert documents == before
        assert (hits[0].document.id, hits[0].document.metadata) == (7, {"source": {"page": 1}})

    def test_top_k_cuts_hits_and_keeps_scores(self, reranker: Reranker) -> None:
        """`top_k` limits the hits; `scores()` still has the score of every document."""
        whole, cut = reranker.rerank(QUERY, ODD_TEXTS), reranker.rerank(QUERY, ODD_TEXTS, top_k=3)
        assert [hit.index for hit in cut] == [hit.index for hit in whole][:3]
        self.assert_close(whole.scores(), cut.scores())

    # ------------------------------------------------------------------ invariance
    def test_order_does_not_matter(self, reranker: Reranker) -> None:
        """A document's score does not depend on its position in the list."""
        self.skip_if_listwise(reranker)
        order = list(range(len(ODD_TEXTS)))
        random.Random(0).shuffle(order)
        shuffled = reranker.rerank(QUERY, [ODD_TEXTS[position] for position in order]).scores()
        straight = reranker.rerank(QUERY, ODD_TEXTS).scores()
        self.assert_close([straight[position] for position in order], shuffled)

    def test_neighbours_do_not_matter(self, reranker: Reranker) -> None:
        """A document has the same score in a list of one as in a longer list."""
        self.skip_if_listwise(reranker)
        alone = [reranker.rerank(QUERY, [text]).scores()[0] for text in ODD_TEXTS]
        self.assert_close(alone, reranker.rerank(QUERY, ODD_TEXTS).scores())

    def test_duplicates_score_alike(self, reranker: Reranker) -> None:
        """Equal texts get equal scores."""
        self.skip_if_listwise(reranker)
        scores = reranker.rerank(QUERY, [ODD_TEXTS[4], "rice", ODD_TEXTS[4]]).scores()
        self.assert_close(scores[:1], scores[2:])

    @pytest.mark.parametrize("budget", [1, 50, 100_000])
    def test_budget_does_not_matter(self, reranker: Reranker, budget: int) -> None:
        """Scores do not depend on the token budget."""
        self.token_scorer(reranker)
        other = self.with_options(reranker, token_budget=budget).rerank(QUERY, ODD_TEXTS)
        self.assert_close(reranker.rerank(QUERY, ODD_TEXTS).scores(), other.scores())

    def test_number_of_threads_does_not_matter(self, reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
        """Scores do not depend on how many batches are computed at the same time."""
        self.token_scorer(reranker)
        found = []
        for threads in ("1", "3"):
            monkeypatch.setenv("RERANK_THREADS", threads)
            found.append(reranker.rerank(QUERY, ODD_TEXTS).scores())
        self.assert_close(*found)

    def test_many_queries_share_a_plan_and_nothing_else(self, reranker: Reranker) -> None:
        """`rerank_many` and `rerank_stream` give the scores of separate calls of `rerank`."""
        requests = [(QUERY, ODD_TEXTS), ("bamboo", ODD_TEXTS[:3]), ("竹子", []), (QUERY, ODD_TEXTS[3:])]
        for together in (reranker.rerank_many(requests), list(reranker.rerank_stream(iter(requests)))):
            for (query, documents), ranking in zip(requests, together, strict=True):
                self.assert_close(reranker.rerank(query, documents).scores(), ranking.scores())

    def test_pairs_score_as_in_a_list(self, reranker: Reranker) -> None:
        """`score` gives the raw scores of `rerank`, in order; listwise models and cascades refuse it."""
        pairs = [(QUERY, ODD_TEXTS[4]), ("bamboo", ODD_TEXTS[5]), (QUERY, ODD_TEXTS[5])]
        cascade = isinstance(reranker.scorer, Resumable) and reranker.scorer.keep
        if is_listwise(reranker.scorer) or cascade:
            with pytest.raises(InputError):
                reranker.score(pairs)
            return
        expected = [reranker.rerank(query, [text], activation="none").scores()[0] for query, text in pairs]
        self.assert_close(expected, reranker.score(pairs))

    def test_activation_keeps_the_order(self, reranker: Reranker) -> None:
        """The sigmoid activation changes the displayed scores, never the order."""
        if reranker.spec.raw_space != "logit" or is_listwise(reranker.scorer):
            pytest.skip("the scores of this model are not logits")
        raw = reranker.rerank(QUERY, ODD_TEXTS, activation="none")
        shown = reranker.rerank(QUERY, ODD_TEXTS, activation="sigmoid")
        assert [hit.index for hit in raw] == [hit.index for hit in shown]
        self.assert_close([sigmoid(score) for score in raw.scores()], shown.scores())
        assert shown.score_space == "probability"

    def test_threads_agree(self, reranker: Reranker) -> None:
        """A reranker called from several threads gives the scores of sequential calls."""
        jobs = [ODD_TEXTS[start:] for start in range(5)]
        expected = [reranker.rerank(QUERY, job).scores() for job in jobs]
        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(lambda job: reranker.rerank(QUERY, job).scores(), jobs * 2))
        for one, other in zip(expected * 2, threaded, strict=True):
            self.assert_close(one, other)

    def test_async_agrees(self, reranker: Reranker) -> None:
        """`arerank` gives the scores of `rerank`."""
        ranking = asyncio.run(reranker.arerank(QUERY, ODD_TEXTS))
        self.assert_close(reranker.rerank(QUERY, ODD_TEXTS).scores(), ranking.scores())

    # ------------------------------------------------------------------ long documents
    def test_windows_cover_a_long_document(self, reranker: Reranker) -> None:
        """With MaxP the passages cover the whole document, and its score is that of the best passage."""
        (sentence,) = self.token_scorer(reranker).tokenize(["大熊猫 eats bamboo 🎋. "], "doc")
        limit = reranker.options.max_length or reranker.spec.max_length
        text = "大熊猫 eats bamboo 🎋. " * (2 * limit // max(1, len(sentence)) + 2)
        ranking = self.with_options(reranker, longdoc="maxp").rerank(QUERY, ["short", text])
        hit = next(hit for hit in ranking if hit.index == 1)
        assert len(hit.passages) > 1
        assert (hit.passages[0].start, hit.passages[-1].stop) == (0, len(text))
        for one, following in zip(hit.passages, hit.passages[1:], strict=False):
            assert one.start < following.start <= one.stop < following.stop
        raw = reranker.rerank(QUERY, [text], longdoc="maxp", activation="none").scores()[0]
        self.assert_close([MaxP().combine([passage.score for passage in hit.passages])], [raw])
        assert hit.truncated is False

    def test_firstp_says_what_it_did_not_read(self, reranker: Reranker) -> None:
        """With FirstP only the first passage is read, and a document with more text is marked as truncated."""
        self.token_scorer(reranker)
        limit = reranker.options.max_length or reranker.spec.max_length
        texts = ["bamboo", "bamboo shoots and leaves " * limit]
        hits = {hit.index: hit for hit in reranker.rerank(QUERY, texts, longdoc="firstp")}
        assert [hits[position].truncated for position in (0, 1)] == [False, True]
        assert [len(hits[position].passages) for position in (0, 1)] == [1, 1]
        assert 0 < hits[1].passages[0].stop < len(texts[1])

    def test_index_scores_like_texts(self, reranker: Reranker) -> None:
        """Indexed documents have the scores of their texts; a model without an index refuses to make one."""
        if not isinstance(self.token_scorer(reranker), Indexable):
            with pytest.raises(InputError):
                reranker.index(ODD_TEXTS)
            return
        index = reranker.index(ODD_TEXTS)
        self.assert_close(reranker.rerank(QUERY, ODD_TEXTS).scores(), reranker.rerank(QUERY, index).scores())

    # ------------------------------------------------------------------ refusals
    @pytest.mark.parametrize("query", ["", " \n", None, 3, b"panda"])
    def test_bad_query_is_refused(self, reranker: Reranker, query: object) -> None:
        """A query that is empty, blank or not a string raises an InputError."""
        with pytest.raises(InputError):
            reranker.rerank(query, ["bamboo"])  # type: ignore[arg-type]

    @pytest.mark.parametrize("documents", ["bamboo", None, [None], [3], [{"id": 1}], [{"text": None}], {"text": "x"}])
    def test_bad_documents_are_refused(self, reranker: Reranker, documents: object) -> None:
        """Documents that are a single string, not strings, or mappings without a text raise an InputError."""
        with pytest.raises(InputError):
            reranker.rerank(QUERY, documents)  # type: ignore[arg-type]

    def test_unknown_option_is_refused(self, reranker: Reranker) -> None:
        """A misspelt option raises an InputError that names the correct option."""
        with pytest.raises(InputError, match="top_k"):
            reranker.rerank(QUERY, ["bamboo"], top_n=3)

    # ------------------------------------------------------------------ the plugin around it
    def test_entry_module_is_light(self, reranker: Reranker) -> None:
        """Importing the plugin's entry module does not import torch, transformers, numpy or onnxruntime."""
        plugin = registry.default().plugin_of(reranker.spec)
        if plugin is None:
            pytest.skip("this model was not registered by a plugin")
        code = (
            f"import sys, {plugin.module.partition(':')[0]}\n"
            "print([m for m in ('torch', 'transformers', 'numpy', 'onnxruntime') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
