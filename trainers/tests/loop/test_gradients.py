"""The gradient of a step is that of the mean loss over its queries, however the step is computed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers
from helpers.runs import WHOLE, Gradients, MakeRows, Prepared, assert_equal, gradient_now, step_of
from helpers.steps import scores_of

from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_core.testing.checkpoints import tiny_tokenizer
from rerank_trainers.objectives.step import Scored, Step

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
def test_a_step_is_the_mean_over_its_rows(
    prepared: Prepared, gradients: Gradients, rows: MakeRows, encoder: Path, objective: str
) -> None:
    """Plain transformers, one pair at a time, no padding and no code of ours, gives the same gradient as a step in one
    pass, in several, and of every document alone."""
    data = rows(scores=True)[::2]
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
    for budget in (1, 60, 10**6):
        (found,) = gradients(prepared(*WHOLE, f"train.token_budget={budget}", f"objective={objective}", rows=data))
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
@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "modernbert", "qwen2", "mistral", "gemma2"])
def test_layout_and_budget_do_not_change_the_gradient(
    prepared: Prepared, rows: MakeRows, checkpoints: dict[str, list[str]], kind: str
) -> None:
    """Packed, padded, in many passes, in parts of groups, with activations kept or computed again."""
    expected = None
    for layout, recompute, budgets in (("padded", False, (1, 10**6)), ("packed", False, (10**6, 100, 1)),
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
            step = step_of(run, rows(9)[::4])
            assert (len(step["passes"]) > 1) is (budget < 10**6)
            run.trainer.training_step(run.model.module, step)
            found = gradient_now(run)
            expected = expected or found
            assert_equal(found, expected, within=5e-6)


@pytest.mark.parametrize("kind", ["bert", "qwen2"])
@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_parts_of_a_group_have_the_dropout_they_were_scored_with(
    prepared: Prepared, rows: MakeRows, checkpoints: dict[str, list[str]], kind: str, layout: str
) -> None:
    """GradCache draws dropout once: the gradient is that of the same parts scored in one graph, and the state of the
    random generator afterwards is the same."""
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
        scores = torch.cat([scores_of(run.model, run.model.module, part.some(some)) for some in runs])
        one = Step(Scored(scores), part.place, part.mask, part.labels, part.teacher)
        losses.append((run.trainer.step_loss.objective.of_step(one) * part.weights).sum())
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
            plain = torch.cat([scores_of(run.model, module, part.batch) for part in step])
            module.train()
            draws = torch.stack(
                [torch.cat([scores_of(run.model, module, part.batch) for part in step]) for _ in range(150)]
            )
            module.eval()
            assert torch.equal(plain, torch.cat([scores_of(run.model, module, part.batch) for part in step]))
        deviation = draws.std(0)
        assert float(deviation.min()) > 1e-4
        assert float((draws.mean(0) - plain).abs().mean()) < float(deviation.mean())
        spread[layout] = float(deviation.mean())
    assert spread["packed"] == pytest.approx(spread["padded"], rel=0.15)
