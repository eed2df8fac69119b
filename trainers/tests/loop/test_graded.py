"""Grades reach the weights: at the default size of a group, documents of every grade meet in a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from helpers.llms import LAYERWISE, OWN, Make, maker
from helpers.runs import Prepared, trained

from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.schema import DataConfig

WORDS = ("panda", "bamboo", "bear", "China", "Paris", "cup", "final", "birds", "fish", "eggs", "score", "query")
GRADED = [
    TrainingRow(
        "what do pandas eat?", tuple(f"{word} {turn}" for word in WORDS), tuple(map(float, labels)), id=f"r{turn}"
    )
    for turn, labels in enumerate(((3, 2, 1, *[0] * 9), (0, 1, 0, 2, 0, 3, 1, 0, 0, 2, 0, 0)))
]
BINARY = [replace(row, labels=tuple(3.0 * (label > 0) for label in row.labels or ())) for row in GRADED]
TOLD = (f"data.group_size={DataConfig().group_size}", "data.label_range=[0,3]", "train.max_steps=1")


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A tiny causal model of four layers, made once."""
    return maker(tmp_path_factory.mktemp, layers=4)


def differ(prepared: Prepared, *told: str) -> bool:
    """Whether grades train other weights than what is left of them as 0 and 1, by more than rounding."""
    rows: Sequence[list[TrainingRow]] = (GRADED, BINARY)
    graded, binary = (trained(prepared(*TOLD, *told, rows=one)) for one in rows)
    return max(float((graded[name] - one).abs().max()) for name, one in binary.items()) > 1e-5


@pytest.mark.parametrize("objective", ["ranknet", "lambda", "softmax_ce", "listnet", "bce", "mse"])
def test_grades_train_other_weights_than_relevance_alone(prepared: Prepared, objective: str) -> None:
    """Grades 3, 2, 1, 0 say more than relevant or not, to every objective that reads labels."""
    assert differ(prepared, f"objective={objective}")


@pytest.mark.parametrize("kind", ["llm", "layerwise"])
def test_grades_reach_language_models(prepared: Prepared, make: Make, kind: str) -> None:
    """The same of a causal model, with one score and with one at every layer."""
    told = LAYERWISE[:1] if kind == "layerwise" else ("model.kind=llm", 'model.answers=["Yes"]')
    own = OWN if kind == "layerwise" else OWN[:1]
    assert differ(prepared, f"model.checkpoint={make('qwen2')}", "objective=ranknet", *told, *own)
