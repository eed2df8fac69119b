"""Thoughts are no answers: what a model thinks aloud is left out, and a thought that a template opens is closed."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import CheckpointError, NonFiniteScoreError
from rerank_core.backends.torch import open_tokenizer
from rerank_llm.chat import ChatTemplate
from rerank_llm.listwise.api import _content
from rerank_llm.listwise.permutation import parse
from rerank_llm.thoughts import end_of_reasoning, without_reasoning

ORDER = "[2] > [1] > [3]"
HARMONY = "<|channel|>analysis<|message|>3, or 1?<|end|><|start|>assistant<|channel|>final<|message|>"
TURNS = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
START = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
OPENS = TURNS + START + "{{ '<think>\n' }}{% endif %}"
# As Qwen3's template does it.
SWITCH = (
    TURNS + START + "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}"
    "{% endif %}{% endif %}"
)
REFUSES = "{% if enable_thinking is defined %}{{ raise_exception('always thinks') }}{% endif %}" + OPENS
QUERY, DOCS = "what does a panda eat?", ["Pandas eat bamboo.", "paris", "大熊猫吃竹子。"]


@pytest.mark.parametrize(
    "text",
    [
        f"<think>3 is best, then 1</think>{ORDER}",
        f"3 is best, then 1</think>\n\n{ORDER}",
        f"<think>3</think>\n<think>1?</think>{ORDER}",
        f"<think>3 <think> 1 </think> 3 </think> {ORDER}",
        f"{ORDER}\n<reason>10 points for 3</reason>",
        f"{ORDER} <think>but 3",
        *(f"<{word}>3 > 1</{word}>{ORDER}" for word in ("thinking", "thought", "reasoning", "THINK", "seed:think")),
        f"[THINK]3 > 1[/THINK]{ORDER}",
        f"◁think▷3 > 1◁/think▷{ORDER}",
        f"<|begin_of_thought|>3<|end_of_thought|>{ORDER}",
        f"<|START_THINKING|>3<|END_THINKING|>{ORDER}",
        f"<|inner_prefix|>3<|inner_suffix|>{ORDER}",
        f"<|channel>thought\n3<channel|>{ORDER}",
        f"{HARMONY}{ORDER}<|return|>",
        f"analysisWe take 3 first.assistantfinal{ORDER}",
        f"<think>3</think><answer>{ORDER}</answer>",
    ],
)
def test_numbers_in_thoughts_are_no_order(text: str) -> None:
    """Whatever marks the thought, the order is what stands outside, and the answer is well formed."""
    answer = parse(text, 3)

    assert answer.order == (1, 0, 2)
    assert (answer.well_formed, answer.thought, answer.unread) == (True, True, False)


@pytest.mark.parametrize(
    "text",
    ["<think>[3] > [2]", "[THINK]3", "<|channel|>analysis<|message|>3 > 2", "analysisWe take 3", "[3] > [2]</think>"],
)
def test_a_thought_that_was_cut_off_is_no_answer(text: str) -> None:
    """A model that ran out of tokens while it thought named no passage; the answer is malformed, and said to be."""
    answer = parse(text, 3)

    assert answer.order == (0, 1, 2)
    assert (answer.well_formed, answer.thought, answer.unread) == (False, True, True)


def test_answers_without_a_thought_are_read_as_before() -> None:
    """No marker, no change; and special tokens are no words, numbers in their names included."""
    assert without_reasoning("The analysis says 2, then 3.") == without_reasoning("The analysis says 2, then 3.")
    assert not without_reasoning("[1] analysis [2]").thought
    answer = parse(f"{ORDER}<|reserved_3|>", 3, ["<|reserved_3|>"])
    assert (answer.order, answer.well_formed, answer.thought) == ((1, 0, 2), True, False)


@pytest.mark.parametrize(
    "text",
    ["<think>" * 30_000, "<think></think>" * 20_000, "</think>" * 30_000, "<|channel|>" * 30_000, "analysisA" * 30_000],
)
def test_no_text_takes_long(text: str) -> None:
    """The time is linear in the length of what a server sends."""
    began = time.perf_counter()
    without_reasoning(text)
    end_of_reasoning(text)

    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<|im_start|>assistant\n<think>\n", "\n</think>\n\n"),
        ("<｜Assistant｜><think>", "\n\n</think>\n\n"),
        ("[/INST][THINK]", "\n\n[/THINK]\n\n"),
        ("<|CHATBOT_TOKEN|><|START_THINKING|>", "\n\n<|END_THINKING|>\n\n"),
        ("<seed:bos>assistant\n<seed:think>", "\n\n</seed:think>\n\n"),
        ("<|start|>assistant", "<|channel|>final<|message|>"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", None),
        ("<｜Assistant｜></think>", None),
        ("<|im_start|>assistant\n", None),
        ("", None),
    ],
)
def test_what_closes_a_prompt(prompt: str, expected: str | None) -> None:
    """The end of each template's prompt, closed as Qwen3's own template closes an empty thought."""
    assert end_of_reasoning(prompt) == expected
    assert end_of_reasoning(prompt + (expected or "")) is None


@pytest.fixture
def with_template(chat: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The tiny chat model under another chat template."""

    def of(template: str) -> Path:
        directory = Path(shutil.copytree(chat, tmp_path / f"chat-{len(list(tmp_path.iterdir()))}"))
        file = directory / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template}), encoding="utf-8")
        return directory

    return of


def test_yes_and_no_are_read_after_the_thought(
    with_template: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    """A template that opens a thought, one that raises when asked not to, and one that can be asked, give one prompt;
    the log says what was closed, once for a model."""
    scores = []
    for template in (SWITCH, OPENS, REFUSES):
        caplog.clear()
        directory = with_template(template)
        with (
            caplog.at_level(logging.WARNING, "rerank_llm"),
            rerank_core.load(f"llm:{directory}", device="cpu") as model,
        ):
            scores.append(model.score([(QUERY, doc) for doc in DOCS]))
        told = [record.getMessage() for record in caplog.records if "inside a thought" in record.getMessage()]
        assert len(told) == (template != SWITCH)

    assert scores[1] == pytest.approx(scores[0], abs=1e-5)
    assert scores[2] == pytest.approx(scores[0], abs=1e-5)


@pytest.mark.parametrize("mode", ["generate", "first-token"])
def test_listwise_prompts_end_outside_a_thought(mode: str, with_template: Callable[[str], Path]) -> None:
    """In both modes the prompt of a template that opens a thought is that of one that was asked not to."""
    found = []
    for template in (SWITCH, OPENS):
        model = rerank_core.load(
            "llm-listwise", checkpoint=with_template(template), device="cpu", mode=mode, max_new_tokens=4
        )
        ranking = model.rerank(QUERY, DOCS)
        found.append(([hit.index for hit in ranking], ranking.statistics))

    assert found[0] == found[1]


def test_a_template_that_cannot_be_written_is_a_typed_error(with_template: Callable[[str], Path]) -> None:
    """One that raises whatever it is asked is refused with what it says."""
    directory = with_template("{{ raise_exception('no such role') }}")
    with pytest.raises(CheckpointError, match="no such role"):
        ChatTemplate(directory, open_tokenizer(directory), instead="").parts([("user", "a")])


class Written:
    """A message of an endpoint."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("fields", "content", "thought"),
    [
        ({"content": ORDER, "reasoning_content": "3, then 1"}, ORDER, True),
        ({"content": ORDER, "reasoning": "3, then 1"}, ORDER, True),
        ({"content": ORDER, "reasoning_content": None}, ORDER, False),
        ({"content": None, "reasoning_content": "3, then"}, None, True),
        ({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": ORDER}]}, ORDER, True),
        ({"content": [{"type": "text", "text": ORDER}]}, ORDER, False),
    ],
)
def test_endpoints_keep_thoughts_apart(fields: dict[str, Any], content: str | None, thought: bool) -> None:
    """A thought in a field or part of its own is none of the answer, and is reported."""
    reply = Written(choices=[Written(message=Written(**fields))])

    assert _content(reply, "the endpoint") == (content, thought)


def nan(directory: Path, names: Sequence[str]) -> None:
    """Make weights NaN."""
    from safetensors.torch import load_file, save_file

    file = directory / "model.safetensors"
    weights = load_file(str(file))
    for name in names:
        weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, str(file), metadata={"format": "pt"})


@pytest.mark.parametrize("mode", ["generate", "first-token"])
def test_logits_that_are_nan_are_no_order(mode: str, chat: Path, tmp_path: Path) -> None:
    """Weights of NaN give a typed error in place of the order of the input, and a call for several says in which."""
    directory = Path(shutil.copytree(chat, tmp_path / "nan"))
    nan(directory, ["model.norm.weight"])
    model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu", mode=mode, max_new_tokens=4)
    with pytest.raises(NonFiniteScoreError, match="check its weights"):
        model.rerank(QUERY, DOCS)
    with pytest.raises(NonFiniteScoreError, match=r"^request 1: "):
        model.rerank_many([(QUERY, DOCS[:1]), (QUERY, DOCS)])


def test_equal_logits_say_nothing(chat: Path, tmp_path: Path) -> None:
    """Letters that are all as likely order nothing: such an answer is malformed, and named no passage."""
    from safetensors.torch import load_file, save_file

    directory = Path(shutil.copytree(chat, tmp_path / "flat"))
    file = directory / "model.safetensors"
    weights = load_file(str(file))
    weights["model.norm.weight"] = torch.zeros_like(weights["model.norm.weight"])
    save_file(weights, str(file), metadata={"format": "pt"})
    model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu", mode="first-token")
    statistics = model.rerank(QUERY, DOCS).statistics

    assert (statistics["windows"], statistics["well_formed"], statistics["unread"]) == (1, 0, 1)


def test_words_that_are_not_shown_are_counted(chat: Path) -> None:
    """Passages cut by max_words are not read whole, and the statistics say how many."""
    model = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", max_words=3, max_new_tokens=2)

    assert model.rerank(QUERY, ["a b c d", "a b c", "a  b\nc"]).statistics["shortened"] == 1
