"""Hard negatives: found by BM25 or a model, never a positive, chosen by rules that say what they dropped."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest

from helpers.scripts import module_of
from rerank_core.errors import InputError
from rerank_core.measures import terms
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.mining import BM25, Corpus, MiningRules, MiningStatistics, mine
from rerank_trainers.retrieval.corpus import text_key
from rerank_trainers.retrieval.retrievers import best_first

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
ROWS = (
    TrainingRow("what does a panda eat?", (PANDAS[0], PANDAS[5]), (1.0, 0.0), id="en"),
    TrainingRow("熊猫吃什么？", (PANDAS[3],), (1.0,), id="zh"),
    TrainingRow("What does a  PANDA eat?", (PANDAS[1],), (2.0,), id="the same query"),
    TrainingRow("how do I mend a tyre?", (PANDAS[6],), (1.0,), id="tyre"),
)


# The readers of the data leave the closing of files to the garbage collector.
LEAKY = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def mined(
    rows: Sequence[TrainingRow] = ROWS, texts: Sequence[str] = PANDAS, **rules: Any
) -> tuple[list[TrainingRow], MiningStatistics]:
    """Rows mined with BM25, and the statistics."""
    corpus, figures = Corpus.of(texts), MiningStatistics()
    return list(mine(rows, corpus, BM25(corpus.texts), MiningRules(**rules), statistics=figures)), figures


def added(before: TrainingRow, after: TrainingRow) -> tuple[str, ...]:
    """The mined documents of a row, which stand after its own."""
    assert after.docs[: len(before.docs)] == before.docs
    return after.docs[len(before.docs) :]


@pytest.fixture(scope="module")
def readers(data: Path) -> ModuleType:
    """Readers of the judged data."""
    return module_of(data / "readers.py")


@pytest.mark.data
@LEAKY
def test_bm25_finds_what_is_known_of_nfcorpus(readers: ModuleType) -> None:
    """nDCG@10 and recall@100 on NFCorpus are the ones of another implementation with these terms, k1 and b."""
    docs, queries, qrels = readers.CORPUS["en_nfcorpus/test"]()
    ids = list(docs)
    bm25 = BM25([docs[doc] for doc in ids])
    ndcg, recall = [], []
    for query, grades in qrels.items():
        scores = bm25.scores(queries[query])
        found = [ids[place] for place, _ in zip(best_first(scores, 0.0), range(100), strict=False)]
        best = sorted(grades.values(), reverse=True)[:10]
        ideal = sum(grade / math.log2(rank + 2) for rank, grade in enumerate(best))
        ndcg.append(sum(grades.get(doc, 0) / math.log2(rank + 2) for rank, doc in enumerate(found[:10])) / ideal)
        recall.append(len(set(found) & set(grades)) / len(grades))
    assert sum(ndcg) / len(ndcg) == pytest.approx(0.3045, abs=5e-5)
    assert sum(recall) / len(recall) == pytest.approx(0.237, abs=5e-4)


# ---------------------------------------------------------------------- order and rules
@pytest.mark.parametrize("values", [7, 500, 10**9])
def test_best_first_is_a_stable_sort(values: int) -> None:
    """Places come by falling score, equal ones in the order of the corpus, down to the floor, however many ties."""
    draw = random.Random(values)
    scores = numpy.array([draw.randrange(values) for _ in range(3000)], dtype="float32")
    expected = sorted((place for place in range(3000) if scores[place] > 0), key=lambda place: (-scores[place], place))
    assert list(best_first(scores, 0.0)) == expected


def test_no_negative_is_a_positive_of_the_query() -> None:
    """Positives of every row with the same query, and copies that differ in case or white space, are never mined."""
    copies = [PANDAS[0].upper(), f"  {PANDAS[1]}\n", PANDAS[3].replace("熊猫", "熊猫 ")]
    rows, figures = mined(texts=[*copies, *PANDAS])
    for before, after in zip(ROWS, rows, strict=True):
        assert after.labels == (before.labels or ()) + (0.0,) * len(added(before, after))
        if "panda" in before.query.lower():
            assert not {text_key(doc) for doc in added(before, after)} & {text_key(PANDAS[0]), text_key(PANDAS[1])}
    # The one with a space inside is another text, and a legitimate candidate.
    assert added(ROWS[1], rows[1])[0] == copies[2]
    assert (figures.dropped["positive of the query"], figures.dropped["own document"]) == (6, 1)
    # The rows of one query differ by the negative that one of them brings.
    assert {*added(ROWS[0], rows[0]), PANDAS[5]} == set(added(ROWS[2], rows[2]))


def test_the_statistics_add_up() -> None:
    """Every candidate is dropped by a named rule, chosen, or beyond what was wanted, and short rows are counted."""
    rows, figures = mined(negatives=2, from_rank=2)
    assert figures.rows == len(ROWS)
    counts = [len(added(before, after)) for before, after in zip(ROWS, rows, strict=True)]
    assert figures.mined_per_row == Counter(counts)
    assert figures.negatives == sum(counts)
    assert figures.short == sum(count < 2 for count in counts) > 0
    assert figures.candidates >= figures.negatives + figures.dropped["before from_rank"]
    assert figures.to_dict()["mined_per_row"] == {str(count): counts.count(count) for count in sorted(set(counts))}


def test_short_rows_stay_short_unless_filling_is_asked_for() -> None:
    """Random texts come only with fill, are counted apart, and are neither candidates, positives nor repeated."""
    plain, figures = mined(negatives=5)
    # No other text has two neighbouring characters of the Chinese query.
    assert (figures.filled, figures.empty, figures.short) == (0, 1, 3)
    filled, other = mined(negatives=5, fill="random")
    assert other.negatives == figures.negatives
    assert other.mined_per_row == figures.mined_per_row
    for before, without, row in zip(ROWS, plain, filled, strict=True):
        assert row.docs[: len(without.docs)] == without.docs
        relevant = set(PANDAS[:2]) if "panda" in before.query.lower() else set(before.docs)
        assert len(set(added(before, row)) - relevant) == len(added(before, row)) == 5
    assert other.filled == sum(len(row.docs) for row in filled) - sum(len(row.docs) for row in plain)
    # What the margin dropped is suspected to be relevant, so it does not come back as a random text.
    strict, after = mined(negatives=5, fill="random", absolute_margin=100.0)
    suspected = set(added(ROWS[3], mined(negatives=8)[0][3]))
    assert (after.negatives, len(suspected)) == (0, 5)
    assert set(added(ROWS[3], strict[3])) == set(PANDAS) - suspected - {PANDAS[6]}


def test_rows_own_negatives_stay_or_go() -> None:
    """By default they stay and are not mined again; otherwise they are removed, counted, and may be mined."""
    kept, _ = mined(ROWS[3:] + ROWS[:1])
    assert kept[1].docs[:2] == ROWS[0].docs
    assert kept[1].docs.count(PANDAS[5]) == 1
    own = replace(ROWS[3], docs=(PANDAS[6], PANDAS[5]), labels=(1.0, 0.0), scores=(1.0, 0.5))
    (row,), figures = mined([own], keep_own_negatives=False, negatives=1)
    assert row.docs == (PANDAS[6], PANDAS[5])
    assert row.scores is None
    assert (figures.own_negatives_left_out, figures.scores_left_out) == (1, 1)


def test_rows_that_cannot_be_mined_are_kept_or_refused() -> None:
    """A row without a positive passes through and is counted; a row without labels is an error that names it."""
    nothing = TrainingRow("panda", (PANDAS[5],), (0.0,), scores=(0.5,), id="nothing")
    rows, figures = mined([nothing, ROWS[0]])
    assert rows[0] == nothing
    assert (figures.without_positive, figures.rows) == (1, 2)
    with pytest.raises(InputError, match=r"'en' .* has no labels"):
        mined([replace(ROWS[0], labels=None)])
    graded = replace(ROWS[0], labels=(2.0, 1.0))
    assert mined([graded], negative_label=1.0)[0][0].labels == (2.0, *[1.0] * 5)


def test_corpus_has_each_text_once() -> None:
    """Blank texts and copies are left out and counted; texts that are only known are never mined."""
    corpus = Corpus.of(["A panda", "a  Panda ", "", " \n", "A bear"])
    assert (corpus.texts, corpus.minable, corpus.repeated, corpus.blank) == (["A panda", "A bear"], 2, 1, 2)
    corpus.add_unmined(["a bear", "a panda eats"])
    assert (len(corpus), corpus.minable, corpus.position("A PANDA eats")) == (3, 2, 2)
    row = TrainingRow("panda", ("a panda sleeps",), (1.0,))
    (after,) = mine([row], corpus, BM25(corpus.texts), MiningRules())
    assert added(row, after) == ("A panda",)
    with pytest.raises(InputError, match="no text to search"):
        Corpus.of(["", " "])


def test_margins_measure_positives_that_the_corpus_lacks_once_it_knows_them() -> None:
    """With a corpus of its own, margins need the positives to be known to it; then BM25 scores both."""
    texts, rules = PANDAS[1:3], MiningRules(absolute_margin=0.0)
    row = ROWS[0]
    corpus = Corpus.of(texts)
    with pytest.raises(InputError, match="positive of row 'en' is not in the corpus"):
        list(mine([row], corpus, BM25(corpus.texts), rules))
    corpus.add_unmined([PANDAS[0]])
    scores = BM25(corpus.texts).scores(row.query)
    (after,) = mine([row], corpus, BM25(corpus.texts), rules)
    assert added(row, after) == tuple(
        text for text, score in zip(texts, scores, strict=False) if 0 < score <= scores[2]
    )


@pytest.mark.data
@LEAKY
def test_real_questions_get_hard_negatives(readers: ModuleType) -> None:
    """On WikiQA no positive is among the negatives, one short row is counted, and the order of rows changes nothing."""
    rows = [
        TrainingRow(query, tuple(text for _, text, _ in docs), tuple(float(label) for *_, label in docs), id=number)
        for number, query, docs in readers.RERANK["en_wikiqa/dev"]()
    ]
    corpus = Corpus.of_rows(rows)
    bm25, rules, figures = (
        BM25(corpus.texts),
        MiningRules(negatives=4, from_rank=3, strategy="random"),
        MiningStatistics(),
    )
    after = list(mine(rows, corpus, bm25, rules, statistics=figures))
    # "whatever happened clint walker": no more than two texts of other rows have one of these words.
    assert figures.mined_per_row == {4: len(rows) - 1, 0: 1}
    for before, row in zip(rows, after, strict=True):
        positives = {text_key(doc) for doc, label in zip(before.docs, before.labels or (), strict=True) if label}
        assert not positives & {text_key(doc) for doc in added(before, row)}
        assert len({text_key(doc) for doc in added(before, row)} - {text_key(doc) for doc in before.docs}) in (0, 4)
        scores = bm25.scores(row.query)
        assert all(scores[corpus.position(doc) or 0] > 0 for doc in added(before, row))
    assert list(mine(rows[::-1], corpus, bm25, rules))[::-1] == after


@pytest.mark.data
@LEAKY
def test_chinese_answers_are_searched_by_their_characters(readers: ModuleType) -> None:
    """On cEpilepsyQA the mined answers share characters with the question, far more than random answers do."""
    asked = list(readers.RERANK["zh_cepilepsyqa/dev"]())[:40]
    rows = [TrainingRow(query, (docs[0][1],), (1.0,), id=number) for number, query, docs in asked]
    corpus = Corpus.of(text for _, _, docs in asked for _, text, _ in docs)
    after = list(mine(rows, corpus, BM25(corpus.texts), MiningRules(negatives=3)))
    draw = random.Random(0)

    def shared(query: str, text: str) -> float:
        return len(set(terms(query)) & set(terms(text))) / len(set(terms(query)))

    ours = [shared(row.query, doc) for row in after for doc in row.docs[1:]]
    chance = [shared(row.query, draw.choice(corpus.texts)) for row in after for _ in range(3)]
    assert len(ours) == 120
    assert sum(ours) > 2 * sum(chance)


def test_mined_negatives_get_the_prompt_of_the_row() -> None:
    """The corpus is searched without prompts; a row whose documents have different prompts is an error."""
    row = replace(ROWS[0], prompts=("passage: ",) * 2)
    (found,), _ = mined([row], negatives=2)
    assert found.prompts == ("passage: ",) * len(found.docs)
    assert len(found.docs) == 4
    with pytest.raises(InputError, match="documents with different prompts"):
        mined([replace(row, prompts=("passage: ", ""))])
