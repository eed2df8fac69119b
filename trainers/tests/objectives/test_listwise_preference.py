"""What a listwise model prefers, from the help's commands to a trained model; and advice that works when followed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rerank_core import InputError
from rerank_core.cli import app
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_trainers.config.parse import parse_config, set_values
from rerank_trainers.objectives.base import Objective
from rerank_trainers.objectives.registry import make_objective
from rerank_trainers.objectives.required_data import check_needs
from rerank_trainers.objectives.weighted import weighted_sum

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STEPS = "--set train.max_steps=1 --set train.warmup=0 --set train.device=cpu --set model.max_length=64"


def rerank(*arguments: str) -> Result:
    """The command, in this process."""
    return CliRunner().invoke(app, list(arguments))


def said(result: Result) -> str:
    """What a command printed, on one line."""
    return " ".join((result.stdout + result.stderr + str(result.exception or "")).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model of random weights, a tiny cross-encoder, and rows whose relevant document stands first."""
    folder = tmp_path_factory.mktemp("preference")
    chat = tiny_causal_lm(folder / "chat", "qwen2", max_position_embeddings=4096)
    file = chat / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": CHATML}), encoding="utf-8")
    tiny_cross_encoder(folder / "model")
    rows = [{"query": f"q{n}", "docs": [f"good {n}", "b", "c", "d"], "labels": [1, 0, 0, 0]} for n in range(12)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def ordered(place: Path) -> tuple[Path, dict[str, Any], str]:
    """The rows in the order that the chat model gives, what the command said on stdout, and on stderr."""
    out = place / "order.jsonl"
    told = f"checkpoint={place / 'chat'}"
    done = rerank("train", "label", str(place / "train.jsonl"), "-m", "llm-listwise", "-o", told, "-o",
                  "max_new_tokens=4", "--device", "cpu", "--out", str(out), "--json")  # fmt: skip
    assert done.exit_code == 0, said(done)
    return out, json.loads(done.stdout), done.stderr


def test_a_model_that_knows_nothing_is_found_out(ordered: tuple[Path, dict[str, Any], str]) -> None:
    """Its answers hold no order: the relevant documents are not first, and the share of malformed answers is told, in
    JSON and on stderr."""
    out, figures, stderr = ordered
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]

    assert 0 < sum(row["scores"][0] == -1 for row in rows) < len(rows)
    assert (figures["answers"], figures["malformed_share"], figures["score_space"]) == (12, 1.0, "rank")
    assert "12 of 12 answers" in stderr
    assert "malformed" in stderr


@pytest.mark.parametrize(("objective", "more"), [("ranknet", ""), ("lambda", "--dry-run"), ("listnet", "--dry-run")])
def test_the_help_is_followed_to_a_trained_model(
    objective: str, more: str, place: Path, ordered: tuple[Path, dict[str, Any], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command of the help trains on what the first one wrote, with each objective that the help names."""
    monkeypatch.chdir(place)
    shown = rerank("train", "label", "--help").stdout
    written = re.search(r"rerank (train reranker --train order\.jsonl .*)", shown)
    assert written is not None
    assert objective in shown
    command = written.group(1).strip(" │").replace("ranknet", objective).replace("bge-reranker-base", "model")
    done = rerank(*shlex.split(f"{command} --out run-{objective} {STEPS} --json {more}"))

    assert done.exit_code == 0, said(done)
    assert (place / f"run-{objective}" / "final" / "reranker.json").is_file() == (not more)


@pytest.mark.parametrize(
    "objective",
    [
        "kl",
        "margin_mse",
        "{name: mse, options: {teacher_space: logit}}",
        "{name: bce, options: {teacher_space: logit}}",
    ],
)
def test_ranks_are_refused_where_distances_are_read_and_the_advice_works(
    objective: str, place: Path, ordered: tuple[Path, dict[str, Any], str]
) -> None:
    """Minus the rank says nothing of how far apart documents are; the message names what learns from orders."""
    common = ("train", "reranker", "--train", str(ordered[0]), "--model", str(place / "model"), "--dry-run")
    refused = rerank(*common, "--set", f"objective={objective}")

    assert refused.exit_code == 1
    assert "are ranks" in said(refused)
    advice = re.findall(r"`([^`]+)`", said(refused))[-1]
    assert rerank(*common, "--set", f"objective={objective}", *shlex.split(advice)).exit_code == 0


ROWS = [TrainingRow("q", ("a", "b", "c"), scores=(2.5, -1.0, 0.3)), TrainingRow("r", ("a", "b"), scores=(1.0, 3.0))]


@pytest.mark.parametrize("name", ["bce", "cosent", "infonce", "mse", "ranknet", "lambda", "listnet", "softmax_ce"])
def test_the_hint_about_missing_labels_works(name: str) -> None:
    """Rows with a teacher's scores alone: each objective that reads labels names a setting that reads the scores."""
    with pytest.raises(InputError, match="needs labels") as caught:
        check_needs(make_objective(name), ROWS)
    (advice,) = re.findall(r"`([^`]+)`", str(caught.value))
    _, assignment = shlex.split(advice)
    (part,) = parse_config(set_values({"objective": name}, [assignment])).objective

    check_needs(make_objective(part.name, **part.options), ROWS)


@pytest.mark.parametrize(
    ("objective", "rows", "words"),
    [
        (make_objective("margin_mse", pairs="labelled"), ROWS, "objective.options.pairs=all"),
        (
            make_objective("kl"),
            [TrainingRow("q", ("a", "b"), (1.0, 0.0))],
            "needs scores.*rerank train label FILES --model",
        ),
        (make_objective("ranknet"), [TrainingRow("q", ("a", "b"))], "rerank train label.*target=teacher"),
        (make_objective("bce"), [TrainingRow("q", ("a", "b"), scores=(-2.0, -1.0))], "set objective=ranknet --set"),
        (
            weighted_sum([(1.0, make_objective("softmax_ce")), (0.5, make_objective("ranknet"))]),
            ROWS,
            "target: teacher among",
        ),
        (make_objective("kl"), [TrainingRow("q", ("a", "b"), scores=(-2.0, -1.0))], "all rows are ranks"),
        (make_objective("cosent"), [TrainingRow("q", ("a",))], "rerank train label.*target=teacher"),
        (
            make_objective("cosent", target="teacher"),
            [TrainingRow("q", ("a", "b"), scores=(-2.0, -1.0))],
            "all rows are ranks",
        ),
        (make_objective("infonce", in_batch="none"), [TrainingRow("q", ("a",), (1.0,))], "use in_batch=all"),
    ],
)
def test_what_is_missing_is_named_with_a_way_on(objective: Objective, rows: Sequence[TrainingRow], words: str) -> None:
    """A message about rows says what they lack and what gives it."""
    with pytest.raises(InputError, match=words):
        check_needs(objective, rows)


def test_scores_that_are_no_ranks_are_no_ranks() -> None:
    """One row with other scores, and score_differences count again; an order is fine with ranks."""
    ranks = TrainingRow("q", ("a", "b"), scores=(-2.0, -1.0))

    check_needs(make_objective("kl"), [ranks, *ROWS])
    check_needs(make_objective("ranknet", target="teacher"), [ranks])
    with pytest.raises(InputError, match="has no name"):
        parse_config(set_values({}, ["objective.options.target=teacher"]))
