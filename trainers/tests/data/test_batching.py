"""Which rows make a step: each drawn as often as its weight says, from one source, and without a text twice."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_core.errors import InputError
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.limits import check_settings
from rerank_trainers.config.parse import parse_config, read_config, set_values, write_config
from rerank_trainers.config.schema import TrainFile
from rerank_trainers.data.batching import Draw, Draws, Plan
from rerank_trainers.data.row_store import RowStore, open_rows
from rerank_trainers.data.row_texts import RowTexts
from rerank_trainers.loop.dataset import Group, Item, TrainingDataset

texts = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True), min_size=1, max_size=40)


def rows_with(documents: Sequence[Sequence[int]], sources: Sequence[str] | None = None) -> list[TrainingRow]:
    """A row of its own query for each list of documents."""
    return [
        TrainingRow(
            f"query {number}",
            tuple(f"document {doc}" for doc in docs),
            (1.0,) + (0.0,) * (len(docs) - 1),
            source=None if sources is None else sources[number % len(sources)],
            id=str(number),
        )
        for number, docs in enumerate(documents)
    ]


def distinct(rows: Sequence[TrainingRow], size: int, group: int = 0, *, epoch: int = 0, **more: bool) -> Plan:
    """The steps of an epoch, with distinct texts."""
    return Draws.of(rows, size, 3, texts=RowTexts(rows, LabelScale(), group, 3), **more).plan(epoch)


def shared(rows: Sequence[TrainingRow], step: Sequence[Draw]) -> set[int]:
    """The rows of a step that share a document with another."""
    found: dict[str, set[int]] = {}
    for draw in step:
        for doc in rows[draw.row].docs:
            found.setdefault(doc, set()).add(draw.row)
    return {row for some in found.values() if len(some) > 1 for row in some}


@given(texts, st.integers(1, 9), st.integers(0, 2))
def test_no_row_is_lost_to_distinct_texts(documents: list[list[int]], size: int, epoch: int) -> None:
    """Every row is in one step, there are as many steps as without the rule, and what could not be kept apart is
    counted."""
    rows = rows_with(documents)
    plan = distinct(rows, size, epoch=epoch)

    assert Counter(draw for step in plan.steps for draw in step) == Counter(
        Draw(row, epoch) for row in range(len(rows))
    )
    assert len(plan.steps) == Draws.of(rows, size, 3).steps == -(-len(rows) // size)
    assert max(map(len, plan.steps)) <= size
    together = [shared(rows, step) for step in plan.steps]
    assert (plan.crowded > 0) == any(together)
    assert plan.crowded <= sum(map(len, together))


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_equal_texts_are_kept_apart_where_there_is_room(epoch: int) -> None:
    """One document in half as many rows as there are steps, and pairs of others: the plain order has collisions, this
    one has none."""
    documents = [[0, 10 + number // 2] if number < 30 else [10 + number // 2] for number in range(480)]
    rows = rows_with(documents)
    plain = Draws.of(rows, 8, 3).plan(epoch)
    assert any(shared(rows, step) for step in plain.steps)

    plan = distinct(rows, 8, epoch=epoch)
    assert plan.crowded == 0
    assert not any(shared(rows, step) for step in plan.steps)


def test_equal_queries_are_kept_apart_too() -> None:
    """The lines of one query that were not grouped; with another instruction it is another text."""
    rows = [TrainingRow("panda", (f"document {n}",), instruction=f"{n // 4}", id=str(n)) for n in range(16)]
    plan = distinct(rows, 4)
    assert [sorted(draw.row // 4 for draw in step) for step in plan.steps] == [[0, 1, 2, 3]] * 4


def test_only_drawn_documents_count() -> None:
    """Rows that share documents are together in a step where the drawn ones differ; the draws are those of training."""
    rows = rows_with([[number, *range(100, 130)] for number in range(64)])
    groups = TrainingDataset(rows, LabelScale(), 3, 3, unique_texts=True)
    for epoch in range(2):
        plan = distinct(rows, 4, 3, epoch=epoch)
        assert plan.crowded == 0
        for step in plan.steps:
            drawn = [text for draw in step for text in groups[Item(draw.row, draw.turn, 1.0)].doc_texts]
            assert len(drawn) == 12 == len(set(drawn))


def test_a_text_in_too_many_rows_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the number of rows concerned; every row is drawn all the same."""
    rows = rows_with([[0]] * 10)
    steps = TrainingDataset(rows, LabelScale(), 0, 3, unique_texts=True).steps(4)
    with caplog.at_level(logging.WARNING):
        for epoch in range(2):
            steps.set_epoch(epoch)
            assert sorted(item.row for step in steps for item in step) == list(range(10))
    assert [record.getMessage().partition(" share")[0] for record in caplog.records] == [
        "data.unique_texts: 7 of 10 rows of epoch 0"
    ]


@given(texts, st.integers(1, 9), st.booleans())
def test_a_step_has_one_source(documents: list[list[int]], size: int, apart: bool) -> None:
    """Every row once, as many steps as the rows of each source need, in an order of all sources."""
    rows = rows_with(documents, ["a", "b", "b"])
    draws = Draws.of(rows, size, 3, same_source=True, texts=RowTexts(rows, LabelScale(), 0, 3) if apart else None)
    plan = draws.plan(1)

    assert all(len({rows[draw.row].source for draw in step}) == 1 for step in plan.steps)
    assert sorted(draw.row for step in plan.steps for draw in step) == list(range(len(rows)))
    assert (
        len(plan.steps) == draws.steps == sum(-(-count // size) for count in Counter(r.source for r in rows).values())
    )


def test_steps_of_sources_are_mixed() -> None:
    """Not one source after the other."""
    rows = rows_with([[number] for number in range(64)], ["a", "b"])
    order = [rows[step[0].row].source for step in Draws.of(rows, 4, 3, same_source=True).plan(0).steps]
    assert order not in (sorted(map(str, order)), sorted(map(str, order), reverse=True))


def test_processes_and_runs_draw_the_same() -> None:
    """All ranks together have the steps of one process, and a new object continues with the same epoch."""
    rows = rows_with([[number % 5] for number in range(50)], ["a", "b", "c"])
    made = [TrainingDataset(rows, LabelScale(), 0, 3, same_source=True, unique_texts=True) for _ in range(3)]
    alone, *shares = made[0].steps(8), made[1].steps(8, rank=0, world=2), made[2].steps(8, rank=1, world=2)
    alone.set_epoch(0)
    list(alone)
    for one in (alone, *shares):
        one.set_epoch(4)
    for whole, *parts in zip(alone, *shares, strict=True):
        assert sorted(item.row for part in parts for item in part if item.weight) == sorted(item.row for item in whole)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Two files: 10 rows, and 7 rows of two sources."""
    names = []
    for name, count in (("a", 10), ("b", 7)):
        file = tmp_path / f"{name}.jsonl"
        records = [
            {"query": f"{name} {n}", "pos": ["yes"], "neg": ["no", "never", "not"], "source": f"{name}{n % 2}"}
            for n in range(count)
        ]
        file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        names.append(str(file))
    return names[0], names[1]


def weighted(files: tuple[str, str], *weights: float) -> RowStore:
    return open_rows(files, weights=weights)


@pytest.mark.parametrize(("weight", "draws"), [(2, 14), (0.5, 4), (1.5, 10), (0.01, 1), (1, 7)])
def test_a_weight_is_how_often_rows_are_drawn(files: tuple[str, str], weight: float, draws: int) -> None:
    """The same number in every epoch; over epochs all rows of the file equally often; the other file once each."""
    store = weighted(files, 1, weight)
    made, seen = Draws.of(store, 4, 3), Counter[int]()
    for epoch in range(7):
        drawn = [draw for step in made.plan(epoch).steps for draw in step]
        counts = Counter(draw.row for draw in drawn)
        assert [counts[row] for row in range(10)] == [1] * 10
        assert len(drawn) == 10 + draws
        assert all(draw.turn == seen[draw.row] for draw in drawn if draws < 7 or weight == 1)
        seen.update(counts)
        assert max(seen[row] for row in range(10, 17)) - min(seen[row] for row in range(10, 17)) <= 1
    assert made.steps == -(-(10 + draws) // 4)


def test_a_row_drawn_twice_gets_other_documents(files: tuple[str, str]) -> None:
    """Negatives rotate over draws and not only over epochs."""
    store = weighted(files, 1, 2)
    groups = TrainingDataset(store, LabelScale(), 2, 3)
    found: dict[int, list[Group]] = {}
    for step in groups.steps(4):
        for item in step:
            found.setdefault(item.row, []).append(groups[item])
    assert {len(some) for row, some in found.items() if row >= 10} == {2}
    assert all(one.docs != other.docs for row, (one, *more) in found.items() for other in more)


def test_weights_survive_a_selection(files: tuple[str, str]) -> None:
    """Rows that are left out do not shift the weights to other rows."""
    store = weighted(files, 1, 3).drop([0, 1, 12])
    counts = Counter(draw.row for step in Draws.of(store, 4, 3).plan(0).steps for draw in step)
    assert [counts[row] for row in range(len(store))] == [1] * 8 + [3] * 6
    assert store.file_numbers().tolist() == [0] * 8 + [1] * 6


def test_weights_and_sources_go_together(files: tuple[str, str]) -> None:
    """The number of steps stays the same in every epoch, with fractions too."""
    made = Draws.of(weighted(files, 1, 0.5), 2, 3, same_source=True)
    assert {len(made.plan(epoch).steps) for epoch in range(6)} == {made.steps}


def test_weights_in_a_configuration(tmp_path: Path) -> None:
    """A file by its path, or with a weight; what is written is read; a weight of 0 is an error."""
    told = {"data": {"train": ["a.jsonl", {"path": "b.jsonl", "weight": 2}]}}
    config = parse_config(told)
    assert config.data.train == ("a.jsonl", TrainFile("b.jsonl", 2.0))
    assert config.data.train_files() == [TrainFile("a.jsonl", 1.0), TrainFile("b.jsonl", 2.0)]
    write_config(config, tmp_path / "config.json")
    assert parse_config(read_config(tmp_path / "config.json")) == config
    assert parse_config(set_values(told, ["data.train={path: c.jsonl, weight: 0.5}"])).data.train == (
        TrainFile("c.jsonl", 0.5),
    )
    with pytest.raises(InputError, match=r"data.train\[1\].wieght' is not a setting. Did you mean 'weight'"):
        parse_config({"data": {"train": ["a", {"path": "b", "wieght": 2}]}})
    with pytest.raises(InputError, match=r"the weight of 'b' in data\.train is 0\.0; it must be above 0"):
        check_settings(parse_config({"data": {"train": [{"path": "b", "weight": 0}]}}), evaluates=False)
