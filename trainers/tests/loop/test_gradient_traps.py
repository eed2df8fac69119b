"""Known traps of other trainers, each as a number that comes out right here: passes that are divided twice or lost,
biases that drift, half precision where it does harm, rows that teach nothing."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers.runs import WHOLE, Gradients, MakeRows, Prepared, assert_equal

from helpers import forked
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.objectives.base import GroupObjective, Needs, PaddedGroups


class Weigh(GroupObjective):
    """A loss whose gradient in each score is what the row says."""

    name = "weigh"
    shift_invariant = False
    needs = Needs(scores=True)

    def losses(self, groups: PaddedGroups) -> torch.Tensor:
        return (groups.teacher * groups.scores).sum(-1)


def test_passes_add_up_and_are_divided_once(prepared: Prepared, gradients: Gradients) -> None:
    """Gradients 1, 10 and 100 of three passes are 37 together."""
    data = [TrainingRow("panda", ("bear",), (1.0,), (size,), id=str(size)) for size in (1.0, 10.0, 100.0)]
    run = prepared(*WHOLE, "train.token_budget=1", "objective=bce", rows=data)
    run.trainer.step_loss.objective = Weigh()
    (found,) = gradients(run)
    assert found["classifier.bias"].tolist() == pytest.approx([37.0])
    assert run.trainer.state.log_history[0]["grad_norm"] > 37


def test_zeroing_before_backward_loses_all_passes_but_the_last(tmp_path: Path) -> None:
    """RAG-Retrieval's order of calls under accelerate gives 100 / 3, which is what the test above guards against."""
    code = (
        "import torch, accelerate\n"
        "a = accelerate.Accelerator(gradient_accumulation_steps=3, cpu=True)\n"
        "m = torch.nn.Linear(1, 1)\n"
        "m, o = a.prepare(m, torch.optim.SGD(m.parameters(), lr=0.0))\n"
        "for size in (1.0, 10.0, 100.0):\n"
        "    with a.accumulate(m):\n"
        "        loss = size * m.bias.sum()\n"
        "        o.zero_grad(); a.backward(loss); o.step()\n"
        "print(float(m.bias.grad))"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    done = forked.run([sys.executable, str(script)], check=True)
    assert float(done.stdout) == pytest.approx(100 / 3, abs=1e-3)


def test_the_bias_of_the_head_moves_only_where_it_means_something(prepared: Prepared, rows: MakeRows) -> None:
    """Under shift-invariant objectives its gradient is rounding noise, of which Adam would make steps of the learning
    rate; under bce it is trained."""
    for objective, moves in (("softmax_ce", False), ("ranknet", False), ("margin_mse", False), ("bce", True)):
        run = prepared(f"objective={objective}", "train.arguments.optim=adamw_torch", rows=rows(4, scores=True))
        before = copy.deepcopy(run.model.module.state_dict())
        run.train()
        after = run.model.module.state_dict()
        assert (not torch.equal(before["classifier.bias"], after["classifier.bias"])) is moves, objective
        assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


class Recording(GroupObjective):
    """BCE that remembers what it was given."""

    name = "recording"
    shift_invariant = False
    needs = Needs(labels=True)

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def losses(self, groups: PaddedGroups) -> torch.Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        found = torch.nn.functional.binary_cross_entropy_with_logits(groups.scores, groups.labels, reduction="none")
        self.seen.append((groups.scores.dtype, groups.labels.dtype, autocast, found.dtype))
        return groups.mean(found)


def test_losses_and_weights_are_float32_under_bf16(prepared: Prepared, gradients: Gradients) -> None:
    """Half precision computes the layers alone: losses, labels, gradients and the weights that are moved are
    float32."""
    found = {}
    for precision in ("float32", "bf16"):
        run = prepared(*WHOLE, f"train.precision={precision}", "objective=bce")
        recording = run.trainer.step_loss.objective = Recording()
        kinds: list[torch.dtype] = []
        for part in run.model.module.modules():
            if isinstance(part, torch.nn.Linear):
                part.register_forward_hook(lambda module, given, out, kinds=kinds: kinds.append(out.dtype))
        (found[precision],) = gradients(run)
        assert set(recording.seen) == {(torch.float32, torch.float32, False, torch.float32)}
        assert set(kinds) == {torch.float32 if precision == "float32" else torch.bfloat16}
        assert {one.dtype for one in run.model.module.parameters()} == {torch.float32}
        assert {one.dtype for one in found[precision].values()} == {torch.float32}
    near, exact = (torch.cat([one.flatten() for one in found[name].values()]) for name in ("bf16", "float32"))
    assert float(torch.cosine_similarity(near, exact, dim=0)) > 0.98
    assert not torch.equal(near, exact)


def test_a_query_without_signal_takes_part_with_a_gradient_of_zero(prepared: Prepared, gradients: Gradients) -> None:
    """Documents that are all irrelevant, or a single one, teach a ranking loss nothing; other processes wait for its
    gradient none the less, so there is one, of zeros."""
    data = [TrainingRow("panda", ("bear", "x"), (0.0, 0.0), id="a"), TrainingRow("panda", ("bear",), (1.0,), id="b")]
    data.append(TrainingRow("panda", ("bear", "Paris"), (1.0, 0.0), id="c"))
    (alone,) = gradients(prepared(*WHOLE, rows=data[2:]))
    (found,) = gradients(prepared(*WHOLE, "train.token_budget=1", rows=data))
    assert_equal(found, {name: one / 3 for name, one in alone.items()}, within=3e-6)
    empty = [data[0], TrainingRow("Paris", ("y", "z"), (0.0, 0.0), id="d")]
    (nothing,) = gradients(prepared(*WHOLE, "train.token_budget=1", rows=empty))
    assert nothing.keys() == found.keys()
    assert all(not one.any() for one in nothing.values())


def test_a_checkpoint_in_half_precision_is_trained_in_float32(
    prepared: Prepared, encoder: Path, tmp_path: Path
) -> None:
    """RAG-Retrieval moves bf16 weights in place, where a small step is rounded away; here they move in float32."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder, dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "half")
    transformers.AutoTokenizer.from_pretrained(encoder).save_pretrained(tmp_path / "half")
    # Far less than what bfloat16 resolves of a weight of 0.3.
    run = prepared(f"model.checkpoint={tmp_path / 'half'}", "train.precision=bf16", "train.learning_rate=1e-6")
    run.train()
    before, after = model.state_dict(), run.model.module.state_dict()
    assert {one.dtype for one in run.model.module.parameters()} == {torch.float32}
    name = "bert.encoder.layer.0.attention.self.query.weight"
    moved = (after[name] - before[name].float()).abs()
    assert 0 < float(moved.max()) < 1e-3
    assert torch.equal(after[name].bfloat16(), before[name])


def test_gradients_are_clipped_as_a_whole(prepared: Prepared, gradients: Gradients) -> None:
    """One factor for all weights, and the log says what the norm was before."""
    (free,) = gradients(prepared(*WHOLE))
    run = prepared(*WHOLE, "train.clip=0.5")
    (clipped,) = gradients(run)
    norm = float(torch.stack([one.norm() for one in free.values()]).norm())
    assert norm > 0.5
    assert_equal(clipped, {name: one * 0.5 / norm for name, one in free.items()}, within=1e-4)
    assert run.trainer.state.log_history[0]["grad_norm"] == pytest.approx(norm, rel=1e-4)
