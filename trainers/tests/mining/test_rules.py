"""Which candidates the rules of mining keep: pure functions of ranks and scores."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from rerank_core.errors import InputError
from rerank_trainers.mining import MiningRules
from rerank_trainers.mining.rules import Candidate, choose_negatives


def test_rules_drop_by_rank_and_by_both_margins() -> None:
    """The window is of ranks from 1, margins are below the worst positive, and every drop is counted by its rule."""
    candidates = [Candidate(place, 10.0 - place) for place in range(10)]
    rules = MiningRules(negatives=2, depth=10, from_rank=2, to_rank=8, absolute_margin=1.0, relative_margin=0.25)
    # Worst positive 8: above 7 is too near, and so is above 6.
    chosen, dropped = choose_negatives(candidates, [9.0, 8.0], rules, "a row")
    assert chosen == [4, 5]
    assert dropped == {"before from_rank": 1, "after to_rank": 2, "absolute margin": 2, "relative margin": 1}
    assert choose_negatives(candidates, [9.0, 8.0], replace(rules, anchor="best"), "a row")[0] == [4, 5]
    assert choose_negatives(candidates, [9.2, 8.0], replace(rules, anchor="best", relative_margin=None), "a row")[
        0
    ] == [2, 3]


@pytest.mark.parametrize(("positive", "kept"), [(10.0, [9.5, 9.0]), (-10.0, [-10.5, -11.0]), (0.0, [-0.5, -10.5])])
def test_a_relative_margin_is_below_the_positive_whatever_its_sign(positive: float, kept: list[float]) -> None:
    """95 % of a positive score, and the same distance below a negative one, where 95 % of it would be above it."""
    scores = sorted([9.6, 9.5, 9.0, 0.5, -0.5, -9.5, -10.4, -10.5, -11.0], reverse=True)
    candidates = [Candidate(place, score) for place, score in enumerate(scores) if score <= positive + 1]
    chosen, _ = choose_negatives(candidates, [positive], MiningRules(relative_margin=0.05), "a row")
    assert [score for score in (scores[place] for place in chosen) if score in kept] == kept
    assert all(score <= max(kept) or score == 0.0 for score in (scores[place] for place in chosen))


def test_random_choices_depend_on_seed_and_row_alone() -> None:
    """The same seed and row draw the same, in order of rank; another seed or row draws differently."""
    candidates = [Candidate(place, -float(place)) for place in range(100)]
    rules = MiningRules(negatives=5, strategy="random")
    first = choose_negatives(candidates, [], rules, "a row")[0]
    assert first == sorted(first) == choose_negatives(candidates, [], rules, "a row")[0]
    others = [
        choose_negatives(candidates, [], replace(rules, seed=1), "a row")[0],
        choose_negatives(candidates, [], rules, "another")[0],
    ]
    assert first not in others
    counts = Counter(place for row in range(400) for place in choose_negatives(candidates, [], rules, str(row))[0])
    assert len(counts) == 100


@pytest.mark.parametrize(
    "rules",
    [
        {"negatives": 0},
        {"depth": 0},
        {"from_rank": 0},
        {"from_rank": 5, "to_rank": 4},
        {"from_rank": 101},
        {"to_rank": 101},
        {"absolute_margin": -1.0},
        {"relative_margin": math.nan},
        {"anchor": "mean"},
        {"strategy": "hard"},
        {"fill": "corpus"},
    ],
)
def test_rules_that_mean_nothing_are_refused(rules: dict[str, Any]) -> None:
    """Every rule is checked before anything is searched, and the message shows the value."""
    with pytest.raises(InputError, match=next(iter(rules))):
        MiningRules(**rules)


# ---------------------------------------------------------------------- rows
