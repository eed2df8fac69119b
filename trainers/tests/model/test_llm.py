"""LLM rerankers in training: prompts, gradients and checkpoints are those that serving and plain Hugging Face have."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.llms import ADAM, Make, Prepared, alike, gradients, like, losses, maker, near, passes
from helpers.steps import scores_of

import rerank_core
from rerank_core import CheckpointError, InputError
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_encoder_decoder
from rerank_trainers.config.schema import ModelConfig
from rerank_trainers.kinds import kind_of
from rerank_trainers.loop.prepare import Run, live_reranker
from rerank_trainers.model.trained_model import open_model

PIECES = {"query": "Q: {query}", "between": "\n", "doc": "D: {doc}", "after": "\nyes or no?"}
OWN = (f"model.template={json.dumps(PIECES)}", 'model.answers=["yes", "no"]')
LLM = ("model.kind=llm", "data.group_size=0")
INSTRUCTION = "Find what pandas eat"


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A tiny causal model of a family, made once."""
    return maker(tmp_path_factory.mktemp, layers=2)


def training_scores(run: Run) -> dict[str, list[float]]:
    """What a step computes of each row's documents, by the row's id."""
    found = {}
    run.model.module.eval()
    for part in passes(run)["passes"]:
        with torch.no_grad():
            laid = scores_of(run.model, run.model.module, part.batch)[part.place]
        for id_, own, mask in zip(part.ids, laid, part.mask, strict=True):
            found[id_] = own[mask].tolist()
    return found


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("qwen3", OWN), ("llama", OWN), ("gemma2", OWN), ("qwen3", ("like", "qwen3-reranker-0.6b")),
        ("gemma", ("like", "bge-llm-gemma")), ("qwen3", ("like", "ctxl-rerank-v2-1b")),
        ("qwen3", (*OWN, "model.layout=padded")),
    ],
)  # fmt: skip
def test_training_lowers_the_loss(family: str, told: Sequence[str], prepared: Prepared, make: Make) -> None:
    """A few rows are learnt, whatever the architecture, the template and the layout."""
    told = [like(told[1])] if told[0] == "like" else told
    data: list[TrainingRow] = [
        TrainingRow(f"{word}?", (f"{word} is a bear", "bamboo", "paris in 1998"), (1.0, 0.0, 0.0), id=word)
        for word in ("panda", "pandas", "query", "document")
    ]
    run = prepared(*LLM, *told, *ADAM, f"model.checkpoint={make(family)}", "model.max_length=256", rows=data)
    assert run.model.scorer.packed == ("model.layout=padded" not in told)
    run.train()
    assert losses(run)[-1] < 0.5 * losses(run)[0]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("family", ["qwen3", "gemma2"])
def test_gradient_is_that_of_plain_hugging_face(
    family: str, layout: str, prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """One step's gradient is autograd's through the whole causal model, rows padded on either side."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = rows(4)
    run = prepared(*LLM, *OWN, f"model.checkpoint={make(family)}", f"model.layout={layout}", rows=data)
    found = gradients(run)

    auto: Any = AutoModelForCausalLM
    # Its SDPA leaves out that Gemma 2 caps attention weights.
    plain = auto.from_pretrained(str(make(family)), dtype=torch.float32, attn_implementation="eager").train()
    tokenizer: Any = AutoTokenizer.from_pretrained(str(make(family)))

    def ids(text: str) -> list[int]:
        own: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return own

    (yes,), (no,) = ids("yes"), ids("no")
    for left in (True, False):
        plain.zero_grad()
        for row in data:
            laid = [[*ids(f"Q: {row.query}"), *ids("\n"), *ids(f"D: {doc}"), *ids("\nyes or no?")] for doc in row.docs]
            width = max(map(len, laid))
            pad = [[0] * (width - len(one)) for one in laid]
            ones = [[1] * len(one) for one in laid]
            both = [[*p, *o] if left else [*o, *p] for p, o in zip(pad, laid, strict=True)]
            mask = torch.tensor([[*p, *o] if left else [*o, *p] for p, o in zip(pad, ones, strict=True)])
            places = (mask.cumsum(1) - 1).clamp(min=0)
            logits = plain(input_ids=torch.tensor(both), attention_mask=mask, position_ids=places).logits
            last = logits[torch.arange(len(laid)), -1 if left else mask.sum(1) - 1]
            share = torch.tensor(row.labels) / sum(row.labels or ())
            loss = -(share * (last[:, yes] - last[:, no]).log_softmax(0)).sum() / len(data)
            loss.backward()
        expected = {name: part.grad for name, part in plain.named_parameters()}
        alike({name: part for name, part in expected.items() if part is not None}, found)


@pytest.mark.parametrize("layout", ["packed", "padded"])
def test_instruction_of_a_row_reaches_its_prompt(layout: str, prepared: Prepared, make: Make) -> None:
    """Rows are trained on what serving computes with `instruction=`, and without one on the model's default."""
    docs = ("bamboo and eggs", "a bear of China", "Paris")
    data = [
        TrainingRow("panda?", docs, (1.0, 0.0, 0.0), instruction=told, id=str(told))
        for told in (None, INSTRUCTION, "Find the capital <|im_end|>")
    ]
    told = (like("qwen3-reranker-0.6b"), "model.max_length=256", f"model.layout={layout}")
    run = prepared(*LLM, *told, f"model.checkpoint={make('qwen3')}", rows=data)
    found = training_scores(run)
    reranker = live_reranker(run.model)
    for row in data:
        more = {} if row.instruction is None else {"instruction": row.instruction}
        near(reranker.rerank("panda?", docs, activation="none", **more).scores(), found[row.id])
    assert len({tuple(own) for own in found.values()}) == 3


@pytest.mark.parametrize(("family", "name"), [("qwen3", "qwen3-reranker-0.6b"), ("gemma", "bge-llm-gemma")])
def test_saved_folder_serves_with_the_options_of_its_model(
    family: str, name: str, prepared: Prepared, make: Make, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """A checkpoint loads by its path with the live scores, takes its model's options, and so does one trained on it."""
    data = rows(4)
    told = (*LLM, "model.max_length=256", "train.max_steps=1")
    run = prepared(*told, like(name), f"model.checkpoint={make(family)}", rows=data)
    run.train()
    option = {"instruction": INSTRUCTION} if name.startswith("qwen3") else {"prompt": INSTRUCTION}
    live = live_reranker(run.model)
    folder = tmp_path / "saved"
    run.trainer.save_model(str(folder))
    for more in ({}, option):
        expected = live.rerank(data[0].query, data[0].docs, activation="none", **more).scores()
        served = rerank_core.load(folder, device="cpu")
        near(expected, served.rerank(data[0].query, data[0].docs, activation="none", **more).scores())
    again = prepared(*told, f"model.checkpoint={folder}", f"train.out={tmp_path / 'again'}", rows=data)
    assert again.model.base == run.model.base
    assert again.model.spec.options == run.model.spec.options
    near(expected, live_reranker(again.model).rerank(data[0].query, data[0].docs, activation="none", **option).scores())


def test_one_answer_is_its_logit(prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]) -> None:
    """With one word of your own the score is that word's logit, with two the difference."""
    found = []
    for answers in ('["yes"]', '["no"]', '["yes", "no"]'):
        told = (*LLM, OWN[0], f"model.answers={answers}", f"model.checkpoint={make('qwen2')}")
        found.append(training_scores(prepared(*told, rows=rows(2)))["row-0"])
    near([a - b for a, b in zip(found[0], found[1], strict=True)], found[2])


def test_answers_replace_those_of_a_model(
    prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """A model's template with other words keeps its instruction."""
    told = (*LLM, like("qwen3-reranker-0.6b"), "model.answers=[panda, bear]", "model.max_length=256")
    run = prepared(*told, f"model.checkpoint={make('qwen3')}", rows=rows(2))
    assert run.model.spec.head == rerank_core.Head.last_token("panda", "bear")
    assert [option.name for option in run.model.spec.options] == ["instruction"]


@pytest.mark.parametrize(
    ("told", "error", "said"),
    [
        ((OWN[0], "model.answers=[relevance]"), CheckpointError, "'relevance' is .* tokens"),
        ((OWN[0], "model.answers=[yes, no]"), InputError, "True; it must be a string; put it in quotes"),
        ((OWN[0],), InputError, "needs model.answers"),
        ((OWN[0], 'model.answers=["yes", "no", "bear"]'), InputError, "one or two words"),
        ((), InputError, "follows a template"),
        (('model.template={"query": "{instruction} {query}"}', OWN[1]), InputError, "there is no value"),
        (('model.template={"prompt": "yes?"}', OWN[1]), InputError, "has the pieces before, query"),
        (("model.kind=cross-encoder", 'model.answers=["yes"]'), InputError, "does not read it"),
        (("model.like=mini", *OWN), InputError, "'llm' needs 'last_token'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    told: Sequence[str], error: type[Exception], said: str, prepared: Prepared, make: Make
) -> None:
    """Labels of several tokens, templates with holes and answers without an LLM fail before training, and say why."""
    with pytest.raises(error, match=said):
        prepared(*LLM, *told, f"model.checkpoint={make('qwen2')}")


# What RAG-Retrieval's LLM rerankers read: a decoder with a classifier on its last token.
CLASSIFIER = (
    "model.kind=cross-encoder",
    "data.group_size=0",
    'model.template={"query": "query: {query}\\n", "doc": "document: {doc}\\nrelevance"}',
)


def test_decoder_with_a_classifier_is_trained_on_padded_rows(
    prepared: Prepared, make: Make, tmp_path: Path, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Its scores are Hugging Face's of each row alone, it learns, and the folder serves with them."""
    data = rows(4)
    run = prepared(*CLASSIFIER, *ADAM, f"model.checkpoint={make('qwen2')}", rows=data)
    assert run.model.fresh == ("score.weight",)
    assert not run.model.scorer.packed
    assert run.model.module.config.pad_token_id == run.model.tokenizer.pad_token_id
    run.train()
    assert losses(run)[-1] < losses(run)[0]

    run.model.module.eval()
    found = training_scores(run)
    for row in data:
        ids = [
            [
                token
                for text in (f"query: {row.query}\n", f"document: {doc}\nrelevance")
                for token in run.model.tokenizer(text, add_special_tokens=False)["input_ids"]
            ]
            for doc in row.docs
        ]
        with torch.no_grad():
            near([float(run.model.module(input_ids=torch.tensor([own])).logits) for own in ids], found[row.id])
    run.trainer.save_model(str(tmp_path / "saved"))
    served = rerank_core.load(tmp_path / "saved", device="cpu")
    near(found[data[0].id], served.rerank(data[0].query, data[0].docs).scores())


def test_decoder_without_padding_is_no_classifier(prepared: Prepared, make: Make) -> None:
    """A tokenizer without a padding token is refused: no last token could be told from padding."""
    with pytest.raises(InputError, match="padding token"):
        prepared(*CLASSIFIER, f"model.checkpoint={make('llama')}")


def test_gradient_checkpointing_changes_no_gradient(
    prepared: Prepared, make: Make, rows: Callable[..., list[TrainingRow]]
) -> None:
    """Layers computed twice give the gradient of layers computed once."""
    found = []
    for checkpointing in ("false", "true"):
        told = (*LLM, *OWN, f"model.checkpoint={make('qwen3')}", f"model.gradient_checkpointing={checkpointing}")
        run = prepared(*told, rows=rows(4))
        computed: list[int] = []
        run.model.plain.model.layers[0].self_attn.register_forward_pre_hook(lambda *_, seen=computed: seen.append(1))
        found.append(gradients(run))
        assert len(computed) == (2 if checkpointing == "true" else 1)
    alike(*found)


def test_an_encoder_decoder_is_refused(tmp_path: Path) -> None:
    """It is served, not trained; the message says so, and does not list transformers' hundred causal models."""
    config = ModelConfig(
        checkpoint=str(tiny_encoder_decoder(tmp_path)), kind="llm", template=PIECES, answers=("yes", "no")
    )
    with pytest.raises(InputError, match=r"is an encoder-decoder \(model_type 't5'\), which cannot be trained here"):
        open_model(config, kind_of(config), name="x")
