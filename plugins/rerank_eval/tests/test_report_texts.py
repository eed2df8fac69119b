"""Texts on the page: hidden characters, excerpts, sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from helpers.reports import evaluation_of, judged_set
from rerank_core.measures import Interval
from rerank_eval.report.labels import Labels
from rerank_eval.report.overview import overview_of
from rerank_eval.report.rows.answer import answer
from rerank_eval.report.sections import Section
from rerank_eval.report.sentences import headline, sentences
from rerank_eval.report.visible import excerpt, visible


@pytest.mark.parametrize(
    "hidden", ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\u202e", "\u2066", "\ud800", "\uffff", "\r"]
)
def test_hidden_characters_are_spelt_out(hidden: str) -> None:
    """Text after them is read as it is."""
    shown = visible(f"a{hidden}b")
    assert shown == f"a⟨U+{ord(hidden):04X}⟩b"
    assert shown.encode()
    assert visible(shown) == shown


def test_other_characters_stay() -> None:
    text = "tab\tline\n中文 العربية 👩‍🔬 e\u0301 \u200e"
    assert visible(text) == text
    assert visible("two\r\nlines") == "two\nlines"


def test_excerpt_without_passage_is_the_beginning() -> None:
    shown = excerpt("x" * 50 + "y" * 50, limit=60)
    assert (shown.before, shown.marked, shown.after) == ("", "", "x" * 50 + "y" * 10)
    assert (shown.cut_before, shown.cut_after, shown.shown, shown.characters) == (False, True, 60, 100)


@pytest.mark.parametrize("passage", [(0, 10), (300, 320), (495, 500), (100, 400), (0, 500), (250, 250), (-5, 9999)])
def test_excerpt_shows_the_passage(passage: tuple[int, int]) -> None:
    """The excerpt is a part of the text that has the passage, and no longer than asked."""
    text = "".join(chr(0x4E00 + at) for at in range(500))
    shown = excerpt(text, passage, limit=100)
    whole = shown.before + shown.marked + shown.after
    at = text.index(whole)
    assert len(whole) == shown.shown == 100
    assert (shown.cut_before, shown.cut_after) == (at > 0, at + 100 < 500)
    start, stop = max(passage[0], 0), min(passage[1], 500)
    assert shown.marked == text[start : min(stop, at + 100)]
    if 0 < stop - start <= 100:
        assert len(shown.marked) == stop - start


def test_sentences_of_an_open_and_a_settled_answer() -> None:
    """The answer names the leader, its lead, what is open, and the gain over the first stage."""
    found = answer(evaluation_of(judged_set(queries=8)), "small")
    assert headline(found) == "good has the highest mean; poor may be as good."
    told = " ".join(sentences(found, "nDCG@10"))
    assert "at a median of 10 ms a query" in told
    assert "These queries do not tell it apart from poor." in told
    assert "poor is the fastest: 2.0 ms a query" in told
    assert "the first stage (toy search)" in told
    found = answer(evaluation_of(judged_set(queries=40)), "small")
    assert not found.open
    assert headline(found) == "good is better than every other model."
    assert "larger than chance explains" in " ".join(sentences(found, "nDCG@10"))


def test_sentences_of_other_answers() -> None:
    """Models that are worse than the first stage, and the number of queries that would settle a lead."""
    found = answer(evaluation_of(judged_set(queries=8)), "small")
    assert found.lead is not None
    assert found.gain is not None
    told = " ".join(sentences(replace(found, lead=replace(found.lead, more_queries=1496)), "nDCG@10"))
    assert "About 1,500 more queries like these would show a lead as large as that over the next." in told
    worse = replace(found.gain, difference=Interval(-0.2, -0.3, -0.1), p_corrected=0.01)
    harmed = replace(found, gain=worse)
    assert headline(harmed) == "No model has a higher mean than the first stage; good has the highest of the models."
    assert "Reranking does harm: −0.200 [−0.300, −0.100] against the first stage" in sentences(harmed, "nDCG@10")[-1]
    unsure = replace(found, gain=replace(worse, p_corrected=0.3))
    assert sentences(unsure, "nDCG@10")[-1].startswith("It is not shown that reranking does harm: −0.200")


def test_the_sets_side_by_side() -> None:
    """Each model with its mean over sets and its figure of each set, of which the best is marked."""
    evaluation = evaluation_of(judged_set("one", queries=40), judged_set("two", queries=40))
    labels = Labels(evaluation.models)
    sections = [Section(evaluation, one, at, labels) for at, one in enumerate(evaluation.sets)]
    lines = {line.name: line for line in overview_of(evaluation, sections).lines}
    assert [(name, line.fixed) for name, line in lines.items() if line.kind in ("model", "oracle")] == [
        ("oracle", True),
        ("good", False),
        ("poor", False),
    ]
    rows = {row.name: row for row in evaluation.rows_of("one")}
    # The two sets are alike, so that the mean over both is that of each.
    figure = f"{rows['good'].figures['nDCG@10'].mean:.3f}"
    assert [(cell.text, best) for cell, best in lines["good"].cells] == [
        (figure, False),
        (figure, True),
        (figure, True),
    ]
