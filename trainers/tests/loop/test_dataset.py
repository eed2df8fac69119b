"""Which rows make a step, and which documents of a row it sees: the same for any number of processes, and no row or
document left out."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.data.batching import Draws, Stratum
from rerank_trainers.data.choosing import choose
from rerank_trainers.loop.dataset import Item, Steps, TrainingDataset

worlds = st.integers(1, 5)


def steps(rows: int, size: int, *, seed: int = 7, epoch: int = 0, rank: int = 0, world: int = 1) -> list[list[Item]]:
    """The steps of an epoch as one process sees them."""
    made = Steps(Draws([Stratum(np.arange(rows))], size, seed), rank=rank, world=world)
    made.set_epoch(epoch)
    found = list(made)
    assert len(made) == len(found)
    return found


@given(st.integers(1, 60), st.integers(1, 20), worlds, st.integers(0, 3))
def test_processes_share_the_steps_of_one(rows: int, size: int, world: int, epoch: int) -> None:
    """Together the processes' items are those of a single process, each once, step by step."""
    alone = steps(rows, size, epoch=epoch)
    shares = [steps(rows, size, epoch=epoch, rank=rank, world=world) for rank in range(world)]

    for number, step in enumerate(alone):
        found = [item.row for share in shares for item in share[number] if item.weight]
        assert sorted(found) == sorted(item.row for item in step)
        assert all(share[number] for share in shares), "a process without a row would not take part in the exchange"
    assert Counter(item.row for step in alone for item in step) == Counter(range(rows))


@given(st.integers(1, 60), st.integers(1, 20), worlds)
def test_weights_give_the_mean_over_the_step(rows: int, size: int, world: int) -> None:
    """Averaged over processes, the weights of a step add up to 1 and are alike, in a short last step too."""
    shares = [steps(rows, size, rank=rank, world=world) for rank in range(world)]

    for number in range(len(shares[0])):
        weights = [item.weight / world for share in shares for item in share[number]]
        assert math.isclose(sum(weights), 1)
        assert len({weight for weight in weights if weight}) == 1


def test_every_epoch_has_an_order_of_its_own() -> None:
    """Rows are drawn anew for each epoch and seed, and the same for the same."""
    first, second = steps(50, 8), steps(50, 8, epoch=1)
    assert [item.row for step in first for item in step] != [item.row for step in second for item in step]
    assert steps(50, 8, seed=8) != first == steps(50, 8)


def test_draws_do_not_depend_on_the_process_they_are_made_in() -> None:
    """Python's hash of strings differs from process to process; draws do not."""
    told = (
        choose([1, 0, 0, 0, 0, 0], 6, 3, seed=3, row="a", epoch=5),
        [item.row for step in steps(30, 4, seed=3, epoch=2) for item in step],
    )
    # A new interpreter: a forked process has the hashes of its parent.
    code = (
        "import numpy; from rerank_trainers.loop.dataset import *; from rerank_trainers.data.choosing import *; "
        "from rerank_trainers.data.batching import *; "
        "s = Steps(Draws([Stratum(numpy.arange(30))], 4, 3)); s.set_epoch(2); "
        "told = choose([1, 0, 0, 0, 0, 0], 6, 3, seed=3, row='a', epoch=5), [i.row for p in s for i in p]; "
        "print(hash('a'), told)"
    )
    env = {**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    number, _, other = done.stdout.strip().partition(" ")

    assert int(number) != hash("a")
    assert other == str(told)


def test_a_group_tells_equal_texts() -> None:
    """Equal texts have equal hashes of 64 signed bits; an instruction or a prompt makes another text."""
    rows = [
        TrainingRow("panda", ("bear", "panda"), (1.0, 0.0), id="a", source="zoo"),
        TrainingRow("panda", ("bear", "Paris"), (1.0, 0.0), id="b", instruction="find", prompts=("", "passage: ")),
        TrainingRow("panda", ("passage: Paris", "bear"), (0.0, 1.0), id="c"),
    ]
    one, two, three = (TrainingDataset(rows, LabelScale(), 0, 0)[Item(number, 0, 1.0)] for number in range(3))

    assert one.source == "zoo"
    assert one.query_text == three.query_text != two.query_text
    assert one.doc_texts[0] == two.doc_texts[0] == three.doc_texts[1]
    assert two.doc_texts[1] == three.doc_texts[0]
    assert len({one.query_text, *one.doc_texts}) == 3, "a query is another text than a document"
    assert all(-(2**63) <= text < 2**63 for text in (one.query_text, *one.doc_texts, *two.doc_texts))


binary = st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0]), min_size=1, max_size=12)
labelled = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0]), min_size=1, max_size=12)


@given(binary, st.integers(1, 14), st.integers(0, 9))
def test_a_group_has_one_relevant_document_and_irrelevant_ones(labels: list[float], size: int, epoch: int) -> None:
    """With two grades: no document twice, as many as asked for, in the row's order; a second relevant one only where
    nothing else is left."""
    chosen = choose(labels, len(labels), size, seed=0, row="r", epoch=epoch)
    relevant = sum(labels[doc] > 0 for doc in chosen)
    others = sum(label <= 0 for label in labels)

    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(size, len(labels))
    if len(labels) > size:
        assert relevant == min(max(1, size - others), sum(label > 0 for label in labels))


def test_two_grades_are_drawn_as_ever() -> None:
    """What docs/training-results.md reports was trained on these draws, bit for bit."""
    labels = [float(doc in (3, 9)) for doc in range(12)]
    shown = [choose(labels, 12, 4, seed=42, row="q", epoch=epoch) for epoch in range(4)]
    found = [
        choose([float(doc % every == 0) for doc in range(count)], count, size, seed=seed, row=str(count), epoch=epoch)
        for count in range(2, 24) for every in (1, 2, 5, 30) for size in range(1, 9)
        for seed in (0, 42) for epoch in range(4)
    ]  # fmt: skip

    assert shown == [[4, 9, 10, 11], [2, 3, 6, 7], [0, 5, 8, 9], [1, 3, 10, 11]]
    assert (
        hashlib.sha256(repr(found).encode()).hexdigest()
        == "02908b64fee8e936ca0179ba1acaacc7e372f670a80ef2257ff14b60799df131"
    )


@given(binary, st.integers(2, 6))
def test_every_irrelevant_document_is_seen_before_any_is_seen_twice(labels: list[float], size: int) -> None:
    """Negatives rotate: over the epochs no two of them differ by more than one in how often they were seen."""
    others = [doc for doc, label in enumerate(labels) if label <= 0]
    relevant = [doc for doc, label in enumerate(labels) if label > 0]
    seen: Counter[int] = Counter(dict.fromkeys(range(len(labels)), 0))
    for epoch in range(len(labels) + 1):
        seen.update(choose(labels, len(labels), size, seed=1, row="r", epoch=epoch))
        if others:
            assert max(seen[doc] for doc in others) - min(seen[doc] for doc in others) <= 1
    assert all(seen[doc] for doc in [*others, *relevant])


@given(st.lists(st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=20), st.integers(2, 9))
def test_grades_meet_and_their_documents_take_turns(labels: list[float], size: int) -> None:
    """Whatever the grades: a relevant document and another grade in every group, none twice, and of each grade no
    document is seen twice before all are seen."""
    grades = {grade: [doc for doc, label in enumerate(labels) if label == grade] for grade in set(labels)}
    seen: Counter[int] = Counter(dict.fromkeys(range(len(labels)), 0))
    for epoch in range(7):
        chosen = choose(labels, len(labels), size, seed=1, row="r", epoch=epoch)
        seen.update(chosen)

        assert chosen == sorted(set(chosen))
        assert len(chosen) == min(size, len(labels))
        if max(labels) > 0:
            assert any(labels[doc] > 0 for doc in chosen)
            assert len({labels[doc] for doc in chosen}) > 1 or len(grades) == 1
        if len(grades) > 2:
            for own in grades.values():
                assert max(seen[doc] for doc in own) - min(seen[doc] for doc in own) <= 1


@pytest.mark.parametrize(
    ("size", "epochs"), [(2, 180), (3, 120), (4, 90), (8, 45), (9, 39)], ids=lambda value: f"{value}"
)
def test_every_document_of_a_long_graded_list_is_seen(size: int, epochs: int) -> None:
    """Of 100 documents, 90 of them irrelevant, the grades share the places: all are seen by then, not by luck."""
    labels = [3.0] * 2 + [2.0] * 3 + [1.0] * 5 + [0.0] * 90
    for row in ("a", "b", "c"):
        draws = [choose(labels, 100, size, seed=0, row=row, epoch=epoch) for epoch in range(epochs)]

        assert set().union(*draws) == set(range(100))


def test_grades_share_a_group_evenly() -> None:
    """Two documents of each of four grades in a group of eight; a grade with fewer leaves its places to the others."""
    even = [3.0] * 9 + [2.0] * 9 + [1.0] * 9 + [0.0] * 9
    rare = [3.0] + [2.0] * 2 + [1.0] * 9 + [0.0] * 9
    for epoch in range(9):
        counts = [
            Counter(labels[doc] for doc in choose(labels, len(labels), 8, seed=0, row="r", epoch=epoch))
            for labels in (even, rare)
        ]

        assert counts[0] == {3: 2, 2: 2, 1: 2, 0: 2}
        assert (counts[1][3], counts[1][2], counts[1][1] + counts[1][0]) == (1, 2, 5)
        assert {counts[1][1], counts[1][0]} == {2, 3}


def test_any_two_grades_meet_in_groups_of_two() -> None:
    """Over the epochs each grade is compared with each other one, though a group has two places."""
    labels = [3.0, 3.0, 2.0, 2.0, 1.0, 1.0, 0.0, 0.0]
    pairs = {
        frozenset(labels[doc] for doc in choose(labels, 8, 2, seed=0, row=row, epoch=epoch))
        for row in ("a", "b") for epoch in range(12)
    }  # fmt: skip

    assert pairs == {frozenset(pair) for pair in itertools.combinations((0.0, 1.0, 2.0, 3.0), 2)}


@pytest.mark.parametrize("order", [1, -1])
def test_fractions_are_cut_into_bands(order: int) -> None:
    """Labels of a scale without grades: the best and the worst meet in every group, what is irrelevant keeps its
    places, and the order of the documents does not matter to which band one is in."""
    percents = [*range(50, 90), *([0] * 40)][::order]
    for epoch in range(8):
        chosen = choose([percent / 100 for percent in percents], 80, 6, seed=0, row="r", epoch=epoch)

        assert Counter((percents[doc] - 50) // 8 if percents[doc] else None for doc in chosen) == dict.fromkeys(
            (*range(5), None), 1
        )


@given(st.integers(1, 12), st.integers(1, 5))
def test_documents_without_labels_take_turns_too(count: int, size: int) -> None:
    """Teacher's scores alone: any documents, and every one of them in time."""
    seen = Counter(doc for epoch in range(count) for doc in choose(None, count, size, seed=1, row="r", epoch=epoch))
    assert set(seen) == set(range(count))
    assert max(seen.values()) - min(seen.values()) <= 1


def test_all_documents_where_no_size_is_asked_for() -> None:
    """Size 0 is the whole row."""
    assert choose([1, 0, 0], 3, 0, seed=0, row="r", epoch=0) == [0, 1, 2]


@pytest.mark.parametrize(
    "scale", [LabelScale(0, 3), LabelScale.named("rag-retrieval-2024"), LabelScale.of({-1: 0.0, 1: 1.0})], ids=str
)
def test_what_is_irrelevant_is_the_lowest_grade_whatever_it_is_worth(scale: LabelScale) -> None:
    """A grade 0 that is worth a quarter is no relevant document, and a grade -1 is no better than none."""
    low = scale.low
    row = TrainingRow("q", ("a", "b", "c", "d", "e"), (low, low, 1.0, low, low), id="r")
    for epoch in range(4):
        group = TrainingDataset([row], scale, 2, seed=0)[Item(0, epoch, 1.0)]
        assert "c" in group.docs
        assert group.labels is not None
        assert sorted(group.labels) == sorted([scale(low), scale(1.0)])


@pytest.mark.parametrize("listed", [{2: 1.0, 1: 0.0, 0: 0.0}, {0: 1.0, 1: 0.0, 2: 0.0}], ids=str)
def test_a_label_that_is_worth_nothing_is_irrelevant(listed: dict[float, float]) -> None:
    """A list of worths decides what is relevant: a label above the lowest may be worth no more, and the lowest most."""
    scale = LabelScale.of(listed)
    row = TrainingRow("q", tuple("abcdef"), (0.0, 1.0, 2.0, 1.0, 1.0, 1.0) if listed[2] else (0, 1, 2, 1, 1, 2), id="r")
    for epoch in range(4):
        group = TrainingDataset([row], scale, 3, seed=0)[Item(0, epoch, 1.0)]

        assert group.labels is not None
        assert sorted(group.labels) == [0.0, 0.0, 1.0]


def test_targets_stay_with_their_documents() -> None:
    """Labels and teacher's scores are those of the documents chosen."""
    docs = tuple(f"d{place}" for place in range(9))
    row = TrainingRow("q", docs, (0, 1, 0, 0, 0, 0, 0, 1, 0), tuple(map(float, range(9))), "told", id="r")
    for epoch in range(9):
        group = TrainingDataset([row], LabelScale(), 4, seed=0)[Item(0, epoch, 0.5)]
        assert group.labels == tuple(row.labels[docs.index(doc)] for doc in group.docs)  # type: ignore[index]
        assert group.teacher == tuple(float(doc[1:]) for doc in group.docs)
        assert (group.id, group.query, group.instruction, group.weight) == ("r", "q", "told", 0.5)
