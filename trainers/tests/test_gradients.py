"""The gradient of a step is that of the mean loss over its queries, however the step is computed."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_core.testing.checkpoints import tiny_tokenizer
from rerank_trainers.labels import LabelScale
from rerank_trainers.objectives import GroupObjective, Needs
from rerank_trainers.objectives import Groups as Laid
from rerank_trainers.reading import Groups
from rerank_trainers.rows import TrainingRow
from rerank_trainers.running import Run
from rerank_trainers.sampling import Item

Gradient = dict[str, torch.Tensor]
Prepared = Callable[..., Run]
Gradients = Callable[[Run], list[Gradient]]
MakeRows = Callable[..., list[TrainingRow]]

# All rows in one step, all documents of each, and no clipping: nothing between the loss and the weights.
WHOLE = ("train.batch_size=100", "data.group_size=0", "train.clip=0")
TEMPLATE = {
    "before": "Judge. ",
    "query": "Query: {query}",
    "between": "\n",
    "doc": "Document: {doc}",
    "after": "\nYes?",
}


def llm(checkpoint: Path) -> list[str]:
    """Settings of an LLM with a template of its own."""
    answers, template = json.dumps(["yes", "no"]), json.dumps(TEMPLATE)
    return [
        f"model.checkpoint={checkpoint}", "model.kind=llm", f"model.answers={answers}", f"model.template={template}"
    ]  # fmt: skip


def modernbert(directory: Path) -> Path:
    """A tiny encoder with local attention in most layers, shorter than the rows."""
    tokenizer = tiny_tokenizer("bert")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        mask_token="[MASK]",
    )  # fmt: skip
    fast.save_pretrained(directory)
    config = transformers.AutoConfig.for_model(
        "modernbert", vocab_size=len(fast), hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=64, num_labels=1, pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2,
        sep_token_id=3, local_attention=8, global_attn_every_n_layers=3, max_position_embeddings=256,
        initializer_range=0.3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, encoder: Path, decoder: Path) -> dict[str, list[str]]:
    """Settings of every kind of attention: plain, local, causal behind a shared prefix, windowed, capped."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "bert": [f"model.checkpoint={encoder}"],
        "xlm-roberta": [f"model.checkpoint={tiny_cross_encoder(folder / 'xlmr')}"],
        "modernbert": [f"model.checkpoint={modernbert(folder / 'modernbert')}"],
        "qwen2": llm(decoder),
        "mistral": llm(tiny_causal_lm(folder / "mistral", "mistral", sliding_window=16)),
        "gemma2": llm(tiny_causal_lm(folder / "gemma2", "gemma2", attn_logit_softcapping=2.0, sliding_window=16)),
    }


def assert_equal(found: Gradient, expected: Gradient, within: float = 1e-6) -> None:
    """Every weight's gradient, relative to the largest of all."""
    assert found.keys() == expected.keys()
    largest = max(float(one.norm()) for one in expected.values())
    assert largest > 1e-2, "a gradient of nothing proves nothing"
    for name, one in expected.items():
        assert float((found[name] - one).norm()) <= within * largest, name


def mean_loss(name: str, per_row: Iterator[tuple[TrainingRow, torch.Tensor]], count: int) -> None:
    """Back-propagate the mean of an objective over rows, from its formula."""
    for row, scores in per_row:
        labels = torch.tensor(row.labels)
        if name == "bce":
            loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, labels)
        elif name == "softmax_ce":
            loss = -(labels / labels.sum() * scores.log_softmax(0)).sum()
        else:
            teacher = torch.tensor(row.scores).softmax(0)
            loss = (teacher * (teacher.log() - scores.log_softmax(0))).sum()
        (loss / count).backward()


# ---------------------------------------------------------------------- against plain transformers
@pytest.mark.parametrize("objective", ["softmax_ce", "bce", "kl"])
@pytest.mark.parametrize("budget", [1, 60, 10**6])
def test_a_step_is_the_mean_over_its_rows(
    prepared: Prepared, gradients: Gradients, rows: MakeRows, encoder: Path, objective: str, budget: int
) -> None:
    """Plain transformers, one pair at a time, no padding and no code of ours, gives the same gradient."""
    data = rows(scores=True)
    (found,) = gradients(prepared(*WHOLE, f"train.token_budget={budget}", f"objective={objective}", rows=data))

    tokenizer = transformers.AutoTokenizer.from_pretrained(encoder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(encoder).eval()

    def scores() -> Iterator[tuple[TrainingRow, torch.Tensor]]:
        for row in data:
            pairs = [tokenizer(row.query, doc, truncation="only_second", max_length=96, return_tensors="pt")
                     for doc in row.docs]  # fmt: skip
            yield row, torch.cat([model(**pair).logits[:, 0] for pair in pairs])

    mean_loss(objective, scores(), len(data))
    expected = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    if objective != "bce":
        del expected["classifier.bias"]
    assert_equal(found, expected, within=2e-6)


@pytest.mark.parametrize("kind", ["qwen2", "gemma2"])
def test_a_step_of_an_llm_is_the_mean_over_its_rows(
    prepared: Prepared,
    gradients: Gradients,
    rows: MakeRows,
    checkpoints: dict[str, list[str]],
    kind: str,
) -> None:
    """The same for a causal model that answers yes or no: whole prompts, one at a time, all logits."""
    data = rows(9)
    run = prepared(*checkpoints[kind], *WHOLE, "model.max_length=256", "train.token_budget=300", rows=data)
    checkpoint = run.config.model.checkpoint
    (found,) = gradients(run)

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, attn_implementation="eager").eval()
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    def scores() -> Iterator[tuple[TrainingRow, torch.Tensor]]:
        for row in data:
            prompts = [
                [*ids("Judge. "), *ids(f"Query: {row.query}"), *ids("\n"), *ids(f"Document: {doc}"), *ids("\nYes?")]
                for doc in row.docs
            ]
            last = [model(input_ids=torch.tensor([prompt])).logits[0, -1] for prompt in prompts]
            yield row, torch.stack([logits[yes] - logits[no] for logits in last])

    mean_loss("softmax_ce", scores(), len(data))
    expected = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    assert_equal(found, expected, within=5e-6)


# ---------------------------------------------------------------------- however it is computed
def step_of(run: Run, rows: list[TrainingRow]) -> dict[str, Any]:
    """The passes of a step of all rows."""
    groups = Groups(rows, LabelScale(), 0, seed=0)
    return run.trainer.passes([groups[Item(number, 0, 1 / len(rows))] for number in range(len(rows))])


def gradient_now(run: Run) -> Gradient:
    """What has been added to the weights' gradients, which are cleared."""
    found = {name: one.grad.clone() for name, one in run.model.module.named_parameters() if one.grad is not None}
    run.model.module.zero_grad()
    return found


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert", "qwen2", "mistral", "gemma2"])
def test_layout_and_budget_do_not_change_the_gradient(
    prepared: Prepared, rows: MakeRows, checkpoints: dict[str, list[str]], kind: str
) -> None:
    """Packed, padded, in many passes, in parts of groups, with activations kept or computed again."""
    expected = None
    for layout, recompute, budgets in (("padded", False, (1, 10**6)), ("packed", False, (10**6, 200, 1)),
                                       ("packed", True, (10**6, 1)), ("padded", True, (10**6,))):  # fmt: skip
        run = prepared(
            *checkpoints[kind],
            "model.max_length=160",
            f"model.layout={layout}",
            f"model.gradient_checkpointing={recompute}",
        )
        assert run.model.scorer.packed is (layout == "packed")
        assert run.model.plain.is_activation_checkpointing is recompute
        for budget in budgets:
            run.trainer.passes.budget = budget
            run.trainer.training_step(run.model.module, step_of(run, rows(9)))
            found = gradient_now(run)
            expected = expected or found
            assert_equal(found, expected, within=5e-6)


@pytest.mark.parametrize("kind", ["bert", "qwen2"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_parts_of_a_group_have_the_dropout_they_were_scored_with(
    prepared: Prepared, rows: MakeRows, checkpoints: dict[str, list[str]], kind: str, layout: str
) -> None:
    """GradCache with the dice thrown once: the gradient is that of the same parts scored in one graph, and the
    generator stands where it would."""
    dropout = ["model.dropout=0.2"] if kind == "bert" else ["model.dropout=0.2", "model.max_length=160"]
    run = prepared(*checkpoints[kind], *dropout, f"model.layout={layout}", "train.token_budget=30", rows=rows(9))
    step = step_of(run, rows(9))
    budget, packed = run.trainer.passes.budget, run.model.scorer.packed
    assert max(len(part.parts(budget, packed=packed)) for part in step["passes"]) > 2

    torch.manual_seed(5)
    total = run.trainer.training_step(run.model.module, step)
    found, stands = gradient_now(run), torch.get_rng_state()

    torch.manual_seed(5)
    run.model.module.train()
    losses = []
    for part in step["passes"]:
        runs = part.parts(budget, packed=packed)
        scores = torch.cat([run.model.scores(run.model.module, part.some(some)) for some in runs])
        laid = scores[part.place]
        losses.append((run.trainer.objective(laid, part.labels, part.teacher, part.mask) * part.weights).sum())
    torch.stack(losses).sum().backward()

    assert_equal(found, gradient_now(run))
    assert float(total) == pytest.approx(float(torch.stack(losses).sum().detach()), abs=1e-6)
    assert torch.equal(stands, torch.get_rng_state())
    torch.manual_seed(6)
    run.trainer.training_step(run.model.module, step)
    other = gradient_now(run)
    assert any(float((other[name] - found[name]).norm()) > 1e-3 for name in found), "dropout was off"


def test_recomputed_activations_have_the_dropout_they_were_scored_with(prepared: Prepared, rows: MakeRows) -> None:
    """Gradient checkpointing with dropout gives the gradient without it."""
    found = []
    for recompute in (False, True):
        run = prepared("model.dropout=0.2", f"model.gradient_checkpointing={recompute}", rows=rows(9))
        torch.manual_seed(5)
        run.trainer.training_step(run.model.module, step_of(run, rows(9)))
        found.append(gradient_now(run))
    assert_equal(found[1], found[0])


def test_attention_dropout_is_kept_on_packed_rows(
    prepared: Prepared, rows: MakeRows, encoder: Path, tmp_path: Path
) -> None:
    """Scores vary in training around those without dropout, as much as on padded rows; the dev set's do not."""
    shutil.copytree(encoder, tmp_path, dirs_exist_ok=True)
    config = json.loads((encoder / "config.json").read_text())
    config |= {"attention_probs_dropout_prob": 0.2, "hidden_dropout_prob": 0.0, "classifier_dropout": 0.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    spread = {}
    for layout in ("packed", "padded"):
        run = prepared(f"model.checkpoint={tmp_path}", "model.dropout=null", f"model.layout={layout}", rows=rows(9))
        module = run.model.module
        step = step_of(run, rows(9))["passes"]
        module.eval()
        with torch.no_grad():
            plain = torch.cat([run.model.scores(module, part.batch) for part in step])
            module.train()
            draws = torch.stack(
                [torch.cat([run.model.scores(module, part.batch) for part in step]) for _ in range(150)]
            )
            module.eval()
            assert torch.equal(plain, torch.cat([run.model.scores(module, part.batch) for part in step]))
        deviation = draws.std(0)
        assert float(deviation.min()) > 1e-4
        assert float((draws.mean(0) - plain).abs().mean()) < float(deviation.mean())
        spread[layout] = float(deviation.mean())
    assert spread["packed"] == pytest.approx(spread["padded"], rel=0.15)


# ---------------------------------------------------------------------- known traps
class Weigh(GroupObjective):
    """A loss whose gradient in each score is what the row says."""

    name = "weigh"
    shift_invariant = False
    needs = Needs(scores=True)

    def losses(self, groups: Laid) -> torch.Tensor:
        return (groups.teacher * groups.scores).sum(-1)


def test_passes_add_up_and_are_divided_once(prepared: Prepared, gradients: Gradients) -> None:
    """Gradients 1, 10 and 100 of three passes are 37 together."""
    data = [TrainingRow("panda", ("bear",), (1.0,), (size,), id=str(size)) for size in (1.0, 10.0, 100.0)]
    run = prepared(*WHOLE, "train.token_budget=1", "objective=bce", rows=data)
    run.trainer.objective = Weigh()
    (found,) = gradients(run)
    assert found["classifier.bias"].tolist() == pytest.approx([37.0])
    assert run.trainer.state.log_history[0]["grad_norm"] > 37


def test_zeroing_before_backward_loses_all_passes_but_the_last() -> None:
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(100 / 3, abs=1e-3)


def test_the_bias_of_the_head_moves_only_where_it_means_something(prepared: Prepared) -> None:
    """Under shift-invariant objectives its gradient is rounding noise, of which Adam would make steps of the learning
    rate; under bce it is trained."""
    for objective, moves in (("softmax_ce", False), ("ranknet", False), ("margin_mse", False), ("bce", True)):
        data = None if objective != "margin_mse" else "scores"
        run = prepared(f"objective={objective}", "train.arguments.optim=adamw_torch",
                       rows=None if data is None else with_scores())  # fmt: skip
        before = copy.deepcopy(run.model.module.state_dict())
        run.train()
        after = run.model.module.state_dict()
        assert (not torch.equal(before["classifier.bias"], after["classifier.bias"])) is moves, objective
        assert not torch.equal(before["classifier.weight"], after["classifier.weight"])


def with_scores() -> list[TrainingRow]:
    """Rows with a teacher's scores."""
    return [
        TrainingRow(f"query {n}", ("a bear", "Paris", "bamboo"), (1.0, 0.0, 0.0), (2.0, 0.5 * n, -1.0), id=str(n))
        for n in range(6)
    ]


class Recording(GroupObjective):
    """BCE that remembers what it was given."""

    name = "recording"
    shift_invariant = False
    needs = Needs(labels=True)

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def losses(self, groups: Laid) -> torch.Tensor:
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
        recording = run.trainer.objective = Recording()
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
    assert_equal(found, {name: one / 3 for name, one in alone.items()})
    empty = [data[0], TrainingRow("Paris", ("y", "z"), (0.0, 0.0), id="d")]
    (nothing,) = gradients(prepared(*WHOLE, "train.token_budget=1", rows=empty))
    assert nothing.keys() == found.keys()
    assert all(not one.any() for one in nothing.values())
