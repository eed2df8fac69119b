"""The grading prompt, and how answers to it are read."""

from __future__ import annotations

import pytest

from rerank_eval.judging.grading_prompt import grade_in, prompt_of


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        ("0", 0),
        (" 3\n", 3),
        ("2.", 2),
        ("**1**", 1),
        ("Grade: 2", 2),
        ("Relevance grade = 3", 3),
        ('{"grade": 2}', 2),
        ("2/3", 2),
        ("2 out of 3", 2),
        ("1 - it is on the subject only", 1),
        ("3\nThe passage names 2 kinds of food.", 3),
        ("<think>Maybe 3? The query has 12 words.</think>\n\n1", 1),
        ("", None),
        ("4", None),
        ("-1", None),
        ("2.5", None),
        ("2 or 3", None),
        ("1-2", None),
        ("10", None),
        ("2/5", None),
        ("highly relevant", None),
        ("The passage deserves a 3", None),
        ("<think>3", None),
    ],
)
def test_only_a_clear_grade_is_read(answer: str, grade: int | None) -> None:
    assert grade_in(answer) == grade


def test_texts_are_inserted_as_they_are() -> None:
    """Braces and the names of the other fields are text."""
    prompt = prompt_of("what is {passage}?", "{query} \\1 {0} 竹子", "answer in {query}")
    assert "<query>\nwhat is {passage}?\n</query>" in prompt
    assert "<passage>\n{query} \\1 {0} 竹子\n</passage>" in prompt
    assert "What the person wants of the search: answer in {query}\n" in prompt
    assert "wants of the search" not in prompt_of("q", "p")
