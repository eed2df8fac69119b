"""The dev set: the serving pipeline's order, ir_measures' numbers, ties against the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ir_measures
import pytest
import torch
import transformers

import rerank_core
from rerank_core import InputError
from rerank_core.measures import parse_metrics
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.evaluation.dev_set import DevSet
from rerank_trainers.loop.prepare import Run, live_reranker

Prepared = Callable[..., Run]
MakeRows = Callable[..., list[TrainingRow]]


def row(*labels: float) -> TrainingRow:
    """A query with documents of these labels."""
    return TrainingRow("q", tuple(f"d{place}" for place in range(len(labels))), labels, id="r")


def test_values_of_a_hand_made_run() -> None:
    """AP and RR by hand: relevant documents at ranks 2 and 5 give (1/2 + 2/5) / 2 and 1/2."""
    found = DevSet([row(0, 1, 0, 0, 1)], ("AP", "RR", "nDCG@10")).metrics([[5.0, 4.0, 3.0, 2.0, 1.0]])
    assert found.values["AP"] == pytest.approx((1 / 2 + 2 / 5) / 2)
    assert found.values["RR"] == pytest.approx(1 / 2)
    log2 = torch.log2(torch.tensor([2.0, 3.0, 6.0])).tolist()
    assert found.values["nDCG@10"] == pytest.approx((1 / log2[1] + 1 / log2[2]) / (1 / log2[0] + 1 / log2[1]))


def test_grades_gain_linearly() -> None:
    """nDCG of grades 3, 1 and 0 in the order 1, 3, 0, with linear gains as trec_eval has them."""
    found = DevSet([row(1, 3, 0)], ("nDCG@10",)).metrics([[3.0, 2.0, 1.0]])
    log3 = float(torch.log2(torch.tensor(3.0)))
    assert found.values["nDCG@10"] == pytest.approx((1 + 3 / log3) / (3 + 1 / log3))


def test_fractions_gain_what_they_are() -> None:
    """nDCG of 3, 2.5, 1 and 0, worst first, by hand; AP and RR count what is nearer to a grade than to the lowest, so
    that the label 1 is relevant here as it is in a row of whole labels."""
    found = DevSet([row(3, 2.5, 1, 0), row(0, 1, 0, 0)]).metrics([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    gains = [0.0, 1.0, 2.5, 3.0]
    worst, best = (sum(gain / math.log2(place + 2) for place, gain in enumerate(order))
                   for order in (gains, gains[::-1]))  # fmt: skip

    assert found.queries["nDCG@10"] == pytest.approx([worst / best, 1 / math.log2(3)])
    assert found.queries["AP"] == pytest.approx([(1 / 2 + 2 / 3 + 3 / 4) / 3, 1 / 2])
    assert [grade for _, grade in found.scored] == [3, 3, 1, 0, 0, 1, 0, 0]


def test_a_whole_row_is_measured_alike_beside_fractions() -> None:
    """What another row's labels are changes no figure of a row: the rule is the dev set's, not the row's."""
    names = ("nDCG@10", "AP", "RR@10", "P@2", "AP(rel=2)", "nDCG(dcg='exp-log2')@10")
    whole, scores = row(3, 2, 1, 0), [2.0, 1.0, 4.0, 3.0]
    alone = DevSet([whole], names).metrics([scores])
    beside = DevSet([row(0.2, 0.9, 0.1), whole, row(1 / 3, 2.7, 0)], names).metrics(
        [[1.0, 2.0, 3.0], scores, [1, 2, 3]]
    )

    assert {name: found[1] for name, found in beside.queries.items()} == pytest.approx(
        {name: found[0] for name, found in alone.queries.items()}, abs=1e-5
    )


@pytest.mark.parametrize("labels", [(0.1234567, 0.7654321, 0.0), (2 / 3, 1.0, 1 / 7), (123456.5, 7.25, 0.0)])
def test_gains_that_no_factor_makes_whole_are_near(labels: tuple[float, ...]) -> None:
    """Labels of a teacher have any number of digits: nDCG is theirs to four places."""
    found = DevSet([row(*labels)], ("nDCG@10",)).metrics([[1.0, 2.0, 3.0]])
    ordered = [sum(label / math.log2(place + 2) for place, label in enumerate(order))
               for order in (labels[::-1], sorted(labels, reverse=True))]  # fmt: skip

    assert found.values["nDCG@10"] == pytest.approx(ordered[0] / ordered[1], abs=1e-4)


def test_a_teachers_many_labels_have_no_common_factor() -> None:
    """Hundreds of labels of any number of digits are measured as well."""
    generator = torch.Generator().manual_seed(0)
    rows = [row(1.0, 0.0, *torch.rand(20, generator=generator).tolist()) for _ in range(40)]
    found = DevSet(rows, ("nDCG@10",)).metrics([list(one.labels or ()) for one in rows])

    assert found.values["nDCG@10"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("listed", "labels", "grades"),
    [
        ({3: 1, 2: 0.75, 1: 0.5, 0: 0.25}, (3, 1, 0), [3, 1, 0]),
        ({2: 1, 1: 0, 0: 0}, (2, 1, 0), [1, 0, 0]),
        ({1: 0, 0: 1}, (1, 0, 0), [0, 1, 1]),
    ],
)
def test_a_list_of_worths_decides_what_is_relevant(
    listed: dict[float, float], labels: tuple[float, ...], grades: list[int]
) -> None:
    """The dev set means by a label what training does: put together, or turned round."""
    assert DevSet([row(*labels)], scale=LabelScale.of(listed)).grades == [grades]


def test_a_constant_scorer_gets_the_worst_order() -> None:
    """Two relevant documents of five, all tied, lie at ranks 4 and 5 wherever the file lists them: AP .325 as the
    C-MTEB of today has it, not the .4 of tied blocks or the 1 of the file's order."""
    for labels in ((1, 1, 0, 0, 0), (0, 0, 0, 1, 1), (0, 1, 0, 1, 0)):
        found = DevSet([row(*labels)], ("AP", "RR@10")).metrics([[0.5] * 5])
        assert found.values["AP"] == pytest.approx(0.325)
        assert found.values["RR@10"] == pytest.approx(1 / 4)


def test_scores_that_float32_could_not_tell_apart_are_no_ties() -> None:
    """trec_eval compares in float32, in which a relevant document that is better by 1e-9 would tie."""
    assert DevSet([row(0, 1)], ("AP",)).metrics([[0.1, 0.1 + 1e-9]]).values["AP"] == 1.0


def test_equals_ir_measures_on_random_runs() -> None:
    """Without ties, every measure is ir_measures' own of the same scores, query by query."""
    generator = torch.Generator().manual_seed(0)
    rows, scores = [], []
    for _ in range(20):
        labels = torch.randint(0, 4, (12,), generator=generator)
        labels[:2] = torch.tensor([0, 2])
        rows.append(row(*map(float, labels.tolist())))
        scores.append(torch.randn(12, generator=generator).tolist())
    names = ("nDCG@10", "AP", "RR@10", "P@3", "R@5")
    found = DevSet(rows, names).metrics(scores)

    qrels = [ir_measures.Qrel(str(q), str(d), int(label)) for q, one in enumerate(rows)
             for d, label in enumerate(one.labels or ())]  # fmt: skip
    run = [ir_measures.ScoredDoc(str(q), str(d), score) for q, one in enumerate(scores) for d, score in enumerate(one)]
    for one in ir_measures.iter_calc(parse_metrics(names), qrels, run):
        assert found.queries[str(one.measure)][int(one.query_id)] == pytest.approx(one.value, abs=1e-12)
    assert found.values["AP"] == pytest.approx(sum(found.queries["AP"]) / 20)
    assert len(found.scored) == 240


def test_rows_that_say_nothing_of_an_order_are_counted_and_left_out() -> None:
    """All relevant, none relevant: left out; with nothing left, or without labels, there is no dev set."""
    dev = DevSet([row(1, 1), row(0, 0), row(1, 0)])
    assert (len(dev.rows), dev.left_out) == (1, 2)
    with pytest.raises(InputError, match="none of 2 dev rows"):
        DevSet([row(1, 1), row(0, 0)])
    with pytest.raises(InputError, match=r"r: a dev set needs labels"):
        DevSet([TrainingRow("q", ("a", "b"), id="r")])


@pytest.mark.parametrize(
    ("labels", "lowest", "grades"),
    [
        ((0, 3, 1), 0, [0, 3, 1]),
        ((-1, 1), -1, [0, 2]),
        ((0.9, 0.2, 0.5), 0, [1, 0, 1]),
        ((1, 2, 1), 1, [0, 1, 0]),
    ],
)
def test_labels_become_whole_grades(labels: tuple[float, ...], lowest: float, grades: list[int]) -> None:
    """The lowest label is grade 0; a teacher's probabilities count from the middle on."""
    assert DevSet([row(*labels)], lowest=lowest).grades == [grades]


def test_unknown_measures_are_named() -> None:
    """ir_measures' names, and no others."""
    with pytest.raises(InputError, match=r"nDGC@10.*measures are those of ir_measures"):
        parse_metrics(["nDGC@10"])


def test_the_dev_set_is_ranked_as_it_is_served(prepared: Prepared, rows: MakeRows) -> None:
    """Scores of a live model are `Reranker.rerank`'s, and those of its folder under `rerank_core.load`."""
    run = prepared("train.max_steps=2", dev=rows(9))
    run.train()
    live = run.evaluate()
    assert live is not None
    assert run.dev is not None
    with rerank_core.load(str(Path(run.trainer.args.output_dir) / "checkpoint-2"), device="cpu") as loaded:
        served = run.dev.evaluate(loaded)
    assert live.values == served.values
    assert [score for score, _ in live.scored] == pytest.approx([score for score, _ in served.scored], abs=1e-5)


def test_a_model_trained_in_bf16_is_measured_in_float32(prepared: Prepared, rows: MakeRows) -> None:
    """bf16 would make ties, and other scores than the saved weights have: in the midst of training as at its end."""
    told = ("train.precision=bf16", "train.eval_steps=1", "train.max_steps=2", "train.keep_checkpoints=9")
    run = prepared(*told, dev=rows(9))
    assert run.dev is not None
    live: dict[int, list[float]] = {}
    rounded: dict[int, list[float]] = {}

    class Look(transformers.TrainerCallback):  # type: ignore[misc]
        def on_save(self, args: Any, state: Any, *more: Any, **others: Any) -> None:
            found = run.evaluate()
            assert found is not None
            live[state.global_step] = [score for score, _ in found.scored]
            pairs = [(row.query, doc) for row in rows(9) for doc in row.docs]
            rounded[state.global_step] = live_reranker(run.model).score(pairs)

    run.trainer.add_callback(Look())
    run.train()
    best = int(str(run.trainer.state.best_model_checkpoint).rpartition("-")[2])
    found = run.evaluate()
    assert found is not None
    assert live[best] == [score for score, _ in found.scored]
    for step, scores in live.items():
        with rerank_core.load(str(Path(run.trainer.args.output_dir) / f"checkpoint-{step}"), device="cpu") as loaded:
            served = [score for score, _ in run.dev.evaluate(loaded).scored]
        assert scores == pytest.approx(served, abs=1e-5)
        assert max(abs(a - b) for a, b in zip(rounded[step], served, strict=True)) > 1e-3, "bf16 was off"


def test_a_measure_by_another_of_its_names_picks_the_best(prepared: Prepared, rows: MakeRows) -> None:
    """MRR@10 is ir_measures' RR@10, and MAP its AP."""
    run = prepared("train.metric=MRR@10", "train.max_steps=1", dev=rows(9))
    run.train()
    assert run.trainer.state.best_metric == run.trainer.state.log_history[1]["eval_RR@10"]
