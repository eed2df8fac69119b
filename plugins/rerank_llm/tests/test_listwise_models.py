"""A chat model in memory, asked for an order: against the same model run by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import rerank_core
from rerank_core import CheckpointError, InputError, Reranker
from rerank_core.testing import ScorerConformance, tiny_causal_lm
from rerank_llm.listwise.permutation import parse
from rerank_llm.listwise.prompts import first_token, rankzephyr, shown

QUERY = "what does a panda eat?"
DOCS = ["Pandas eat bamboo.", "paris", "大熊猫吃竹子。", "<|im_end|> [1]", "", "what is the answer?", "a bear"]


def test_a_local_model_writes_the_order(chat: Path, plain: Any) -> None:
    """Greedy, as by hand; what had to be mended is in the ranking's statistics."""
    docs = [doc for doc in DOCS if "<|" not in doc]
    messages = rankzephyr(shown(QUERY), [shown(doc, 300) for doc in docs])
    ids = plain.prompt(messages)
    expected = parse(plain.answer(ids, 12), len(docs))
    ranking = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", max_new_tokens=12).rerank(QUERY, docs)
    assert [hit.index for hit in ranking] == list(expected.order)
    assert ranking.score_space == "rank"
    assert ranking.statistics["windows"] == 1
    assert ranking.statistics["missing"] == expected.missing
    assert ranking.statistics["prompt_tokens"] == len(ids)


def test_first_token_reads_the_logits_of_the_letters(chat: Path, plain: Any) -> None:
    docs = [doc for doc in DOCS if "<|" not in doc]
    ids = [*plain.prompt(first_token(shown(QUERY), [shown(doc, 300) for doc in docs])), *plain.ids("[")]
    logits = plain.logits(ids)
    letters = [float(logits[plain.ids("ABCDEFG"[place])[0]]) for place in range(len(docs))]
    ranking = rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", mode="first-token").rerank(QUERY, docs)
    assert [hit.index for hit in ranking] == sorted(range(len(docs)), key=lambda place: -letters[place])
    assert "completion_tokens" not in ranking.statistics


def test_a_prompt_that_does_not_fit_shows_less_of_the_passages(
    tmp_path: Path, templated: Callable[[Path], Path]
) -> None:
    directory = tiny_causal_lm(tmp_path, "qwen2", max_position_embeddings=1200)
    templated(directory)
    model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu", max_new_tokens=8)
    ranking = model.rerank(QUERY, ["zebra " * 250, "giraffe " * 250, "a"])
    assert ranking.statistics["shortened"] == 2
    assert ranking.statistics["prompt_tokens"] <= 1192
    with pytest.raises(InputError, match="smaller window"):
        model.rerank("panda? " * 600, ["a", "b"])


@pytest.mark.parametrize("mode", ["generate", "first-token"])
@pytest.mark.parametrize("long", ["x" * 3000, "ก" * 3000, "https://a.b/" + "ab" * 1500])
def test_text_without_blanks_is_cut_and_its_neighbours_are_not(
    long: str, mode: str, tmp_path: Path, templated: Callable[[Path], Path]
) -> None:
    directory = templated(tiny_causal_lm(tmp_path, "qwen2", max_position_embeddings=1200))
    model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu", max_new_tokens=8, mode=mode)
    statistics = model.rerank(QUERY, [long, "bamboo leaves", "a"]).statistics
    assert statistics["shortened"] == 1
    assert 1150 < statistics["prompt_tokens"] <= 1199


@pytest.mark.parametrize("new", [400, 299])
def test_a_model_too_short_for_any_prompt_says_so(new: int, tmp_path: Path, templated: Callable[[Path], Path]) -> None:
    directory = templated(tiny_causal_lm(tmp_path, "qwen2", max_position_embeddings=300))
    model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu", max_new_tokens=new)
    with pytest.raises(InputError, match="smaller max_new_tokens"):
        model.rerank(QUERY, ["a", "b"])


@pytest.mark.parametrize(
    "settings",
    [
        {"repetition_penalty": 1.5},
        {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "repetition_penalty": 1.05},
        {"num_beams": 3},
        {"return_dict_in_generate": True},
        {"stop_strings": ["a"]},
        {"max_length": 20},
    ],
)
def test_a_checkpoints_own_settings_do_not_change_the_answer(
    settings: dict[str, Any], chat: Path, tmp_path: Path, plain: Any
) -> None:
    """Qwen2.5 brings a penalty on repetition, which would fall on the brackets of an order."""
    other = Path(shutil.copytree(chat, tmp_path / "other"))
    (other / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    docs = ["bamboo 1", "paris 2", "3"]
    prompt = torch.tensor([plain.prompt(rankzephyr(QUERY, docs))])
    written = []
    for directory in (chat, other):
        model = rerank_core.load("llm-listwise", checkpoint=directory, device="cpu").scorer._window_ranker._model  # type: ignore[union-attr]
        written.append(
            model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, pad_token_id=0)
        )
    assert written[0].tolist() == written[1].tolist()


@pytest.mark.parametrize("option", ["max_words", "max_new_tokens"])
@pytest.mark.parametrize("value", [0, -1])
def test_lengths_are_positive(option: str, value: int, chat: Path) -> None:
    with pytest.raises(InputError, match=f"{option} is {value}"):
        rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", **{option: value})


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"window": 30, "mode": "first-token"}, InputError, "26 identifiers"),
        ({"stride": 30}, InputError, "stride"),
        ({"dtype": "int8"}, InputError, "int8"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], error: type[Exception], said: str, chat: Path) -> None:
    with pytest.raises(error, match=said):
        rerank_core.load("llm-listwise", checkpoint=chat, device="cpu", **options)


def test_no_checkpoint_and_no_template_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint="):
        rerank_core.load("llm-listwise")
    with pytest.raises(CheckpointError, match=r"no chat template.*prompt='plain'"):
        rerank_core.load("llm-listwise", checkpoint=tiny_causal_lm(tmp_path), device="cpu")


@pytest.fixture(scope="module", params=["generate", "first-token"])
def reranker(request: pytest.FixtureRequest, chat: Path) -> Reranker:
    return rerank_core.load(
        "llm-listwise", checkpoint=chat, device="cpu", mode=request.param, max_new_tokens=4, window=5, stride=3
    )


class TestListwise(ScorerConformance):
    """The conformance suite, of which a listwise model promises the part that needs no scores."""
