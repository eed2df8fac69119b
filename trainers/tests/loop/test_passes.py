"""A step's groups as passes: the rows that serving makes, under a budget, none lost and none twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.steps import scores_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rerank_core import InputError
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds import kind_of
from rerank_trainers.loop.dataset import Group
from rerank_trainers.loop.passes import Pass, Passes
from rerank_trainers.loop.prepare import live_reranker
from rerank_trainers.model.trained_model import Model, open_model

KINDS = ("encoder", "padded", "decoder")


@pytest.fixture(scope="module")
def models(encoder: Path, decoder: Path) -> dict[str, Model]:
    """One that is packed, one that is padded and one whose rows share the query."""
    told: dict[str, dict[str, Any]] = {
        "encoder": {"checkpoint": str(encoder)},
        "padded": {"checkpoint": str(encoder), "layout": "padded"},
        "decoder": {
            "checkpoint": str(decoder),
            "kind": "llm",
            "template": {"query": "Query: {query}", "between": "\n", "doc": "Document: {doc}", "after": "\nRelevant:"},
            "answers": ("yes", "no"),
        },
    }
    found = {
        name: open_model(config := ModelConfig(max_length=128, **one), kind_of(config), name=name)
        for name, one in told.items()
    }
    assert [found[name].scorer.packed for name in KINDS] == [True, False, True]
    return found


def groups_of(rows: Sequence[TrainingRow]) -> list[Group]:
    """Whole rows as groups."""
    weight = 1 / len(rows)
    return [Group(row.id or "", row.query, row.docs, row.labels, row.scores, row.instruction, weight) for row in rows]


def passes_of(model: Model, groups: Sequence[Group], budget: int, length: int = 128, query: int | None = None) -> Any:
    """The passes of a step."""
    return Passes(model.scorer, length, query, budget)(groups)["passes"]


def scored(model: Model, passes: Sequence[Pass]) -> dict[str, list[float]]:
    """Each group's scores, by its row's id, in the order of its documents."""
    model.module.eval()
    found = {}
    for part in passes:
        with torch.no_grad():
            laid = scores_of(model, model.module, part.batch)[part.place]
        for id_, scores, mask in zip(part.ids, laid, part.mask, strict=True):
            assert id_ not in found
            found[id_] = scores[mask].tolist()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [1, 150, 10**6])
def test_training_scores_are_those_of_serving(
    models: dict[str, Model], rows: Callable[..., list[TrainingRow]], kind: str, budget: int
) -> None:
    """Template, tokens and truncation are one: each document scores as `Reranker.rerank` scores it, in its place."""
    model = models[kind]
    found = scored(model, passes_of(model, groups_of(rows()), budget))
    served = live_reranker(model)

    for row in rows():
        assert found[row.id or ""] == pytest.approx(served.rerank(row.query, row.docs).scores(), abs=2e-5)


sizes = st.lists(st.integers(1, 6), min_size=1, max_size=7)


@given(sizes, st.integers(1, 400), st.sampled_from(KINDS))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_passes_fit_the_budget(models: dict[str, Model], counts: list[int], size: int, kind: str) -> None:
    """Every document of every group has a row of its own; a pass over the budget is a single group, and a part over it
    a single row."""
    model = models[kind]
    docs = ["bear", "the mountains of China " * 3, "大熊猫", "", "bamboo " * 20, "Paris"]
    groups = [
        Group(f"g{n}", f"query {n}", tuple(docs[(n + k) % 6] for k in range(count)), (1.0,) * count, None, None, 0.25)
        for n, count in enumerate(counts)
    ]
    passes = passes_of(model, groups, size)

    assert sorted(id_ for part in passes for id_ in part.ids) == sorted(group.id for group in groups)
    for part in passes:
        assert part.mask.sum(1).tolist() == [counts[int(id_[1:])] for id_ in part.ids]
        assert sorted(part.place[part.mask].tolist()) == list(range(len(part.batch.rows)))
        assert part.weights.tolist() == [0.25] * len(part.ids)
        runs = part.parts(size, packed=model.scorer.packed)
        assert [row for run in runs for row in run] == list(range(len(part.batch.rows)))
        assert len(runs) == 1 or len(part.ids) == 1
        for run in runs:
            shared = {part.batch.rows[row].query: part.shared.get(part.batch.rows[row].query, 0) for row in run}
            lengths = [part.lengths[row] for row in run]
            padded = len(run) * max(part.lengths[r] + shared[part.batch.rows[r].query] for r in run)
            tokens = sum(lengths) + sum(shared.values()) if model.scorer.packed else padded
            assert tokens <= size or len(run) == 1


def test_an_overlong_query_is_named_or_cut(models: dict[str, Model]) -> None:
    """RAG-Retrieval's tokenizer raises somewhere inside; here the row is named, or `max_query_length` cuts it."""
    model = models["encoder"]
    long = Group("the-long-one", "panda " * 200, ("a bear", "x"), (1.0, 0.0), None, None, 0.5)
    fine = Group("fine", "panda", ("a bear",), (1.0,), None, None, 0.5)

    with pytest.raises(InputError, match=r"the row the-long-one .* leaves no room.*max_query_length"):
        passes_of(model, [fine, long], 10**6)
    (part,) = passes_of(model, [fine, long], 10**6, query=16)
    assert max(part.lengths) <= 16 + 3 + 128


@pytest.mark.parametrize("kind", KINDS)
def test_long_documents_are_cut_and_empty_ones_kept(models: dict[str, Model], kind: str) -> None:
    """A row never exceeds `max_length`, and an empty document is a document."""
    model = models[kind]
    group = Group("g", "panda", ("bamboo " * 300, "", "bear"), (1.0, 0.0, 0.0), None, None, 1.0)
    (part,) = passes_of(model, [group], 10**6)

    lengths = [length + part.shared.get(0, 0) for length in part.lengths]
    assert max(lengths) == 128
    assert len(lengths) == 3
    assert torch.isfinite(scores_of(model, model.module, part.batch)).all()


def test_instructions_do_not_share_a_pass(models: dict[str, Model]) -> None:
    """What a pass is told holds for all of its rows."""
    groups = [Group(str(n), "panda", ("bear",), (1.0,), None, "told" if n % 2 else None, 0.25) for n in range(4)]
    passes = passes_of(models["decoder"], groups, 10**6)
    assert [part.ids for part in passes] == [("0", "2"), ("1", "3")]


def test_targets_lie_where_their_documents_do(models: dict[str, Model]) -> None:
    """Labels and teacher's scores follow the mask, and are absent where a row has none."""
    groups = [
        Group("a", "panda", ("bear", "bamboo"), (1.0, 0.5), (3.0, -2.0), None, 0.5),
        Group("b", "Paris", ("capital", "eggs", "x"), (0.0, 1.0, 0.25), None, None, 0.5),
    ]
    (part,) = passes_of(models["encoder"], groups, 10**6)
    by_id = {id_: part.labels[line][part.mask[line]].tolist() for line, id_ in enumerate(part.ids)}
    assert by_id == {"a": [1.0, 0.5], "b": [0.0, 1.0, 0.25]}
    assert part.teacher is None
