"""What holds of all rows together: data that teaches nothing is refused before a model is opened."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers import forked
from rerank_core import InputError
from rerank_core.cli import app
from rerank_core.records.label_scale import LabelScale
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.checks.training_signal import TrainingSignal
from rerank_trainers.config.schema import DataConfig
from rerank_trainers.objectives.registry import make_objective

Labels = tuple[float, ...] | None


def lack(
    judged: list[tuple[Labels, Labels]], objective: str, group_size: int = 8, together: int = 0, **scale: object
) -> str | None:
    """What rows of these labels and scores lack for an objective."""
    signal = TrainingSignal(LabelScale(**scale))  # type: ignore[arg-type]
    for labels, scores in judged:
        signal.add(TrainingRow("q", ("d",) * len(labels or scores or ()), labels, scores))
    return signal.why_no_signal(make_objective(objective).needs, group_size, together)


ONES, ZEROS, MIXED = ((1, 1), None), ((0, 0), None), ((1, 0), None)
TAUGHT, FLAT = ((1, 0), (0.9, 0.2)), ((1, 0), (0.5, 0.5))


@pytest.mark.parametrize(
    ("objective", "judged", "message"),
    [
        ("bce", [ONES, ONES], "every document is relevant"),
        ("mse", [((1,), None), ((1,), None)], "`rerank train mine"),
        ("ranknet", [ONES], "every document is relevant"),
        ("bce", [ZEROS, ZEROS], "data.label_map"),
        ("softmax_ce", [ONES, ZEROS], "no row has documents with different labels"),
        ("infonce", [ZEROS, ZEROS], "data.label_map"),
        ("cosent", [((1,), None), ((1,), None)], "every document is relevant"),
        ("kl", [FLAT, FLAT], "all scores of the teacher are 0.5"),
        ("margin_mse", [FLAT, ((1, 0), (0.7, 0.7))], "in no row do the teacher's scores differ"),
    ],
)
def test_rows_that_teach_nothing_are_found(objective: str, judged: list[tuple[Labels, Labels]], message: str) -> None:
    """The whole of the data decides, and what the objective reads of it."""
    assert message in (lack(judged, objective) or "")


@pytest.mark.parametrize(
    ("objective", "judged"),
    [
        ("bce", [((1,), None), ((0,), None)]),
        ("bce", [ONES, ZEROS]),
        ("infonce", [((1,), None), ((1,), None)]),
        ("softmax_ce", [ONES, MIXED]),
        ("kl", [((1, 1), (0.9, 0.2))]),
        ("margin_mse", [FLAT, TAUGHT]),
    ],
)
def test_rows_that_teach_something_are_sound(objective: str, judged: list[tuple[Labels, Labels]]) -> None:
    """Single documents and rows of one label are sound where others are of another; labels that nobody reads may be
    anything."""
    assert lack(judged, objective) is None


def test_what_a_map_puts_together_teaches_nothing() -> None:
    """The worth of a label counts, not the label."""
    told = lack([((3, 2), None)], "bce", low=0, high=3, grades=((0.0, 0.0), (2.0, 1.0), (3.0, 1.0)))
    assert "every document is relevant" in (told or "")


def test_a_group_of_one_sees_no_irrelevant_document() -> None:
    """A group of one holds the relevant document alone, whatever the row has beside it."""
    assert "data.group_size is 1" in (lack([MIXED], "bce", group_size=1) or "")
    assert lack([((1,), None), ((0,), None)], "bce", group_size=1) is None


@pytest.mark.parametrize("objective", ["infonce", "cosent"])
def test_a_step_of_one_query_has_nothing_to_compare(objective: str) -> None:
    """Documents of one label teach only beside those of other queries, and a group of one has no other document."""
    judged = [((1,), None), ((0.5,), None)]
    for rows, size, together, alone in (
        (judged, 8, 1, True), (judged, 8, 2, False), (judged, 8, 0, False),
        ([MIXED], 8, 1, False),
    ):  # fmt: skip
        assert ("train.batch_size" in (lack(rows, objective, size, together) or "")) == alone
    assert "train.batch_size" in (lack([MIXED], "infonce", 1, 1) or "")
    assert lack([MIXED], "infonce", 1, 2) is None


def test_the_check_knows_the_size_of_a_step(tmp_path: Path) -> None:
    """A batch of one query, or sources of one row each, are told before training."""
    alone = [{"query": f"q {at}", "pos": [f"a {at}"], "source": f"s {at}"} for at in range(3)]
    path = written(tmp_path, "alone.jsonl", *alone)
    kind = ["--set", "model.kind=embedding", "--objective", "infonce"]
    for told, code in (([], 0), (["-s", "train.batch_size=1"], 1), (["-s", "data.same_source=true"], 1)):
        done = CliRunner().invoke(app, ["train", "check", path, *kind, *told])
        assert (done.exit_code, "its loss is always 0" in done.output) == (code, bool(code))


def test_a_map_of_labels_is_checked() -> None:
    """Labels of a map are numbers."""
    with pytest.raises(InputError, match="must consist of numbers"):
        DataConfig(label_map={"good": 1, "bad": 0}).label_scale()


def written(folder: Path, name: str, *records: dict[str, object]) -> str:
    """A file of JSON lines."""
    path = folder / name
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def dry(*arguments: str, model: Path) -> tuple[int, str, str]:
    """`rerank train reranker --dry-run`: exit code, stdout, stderr."""
    done = CliRunner().invoke(app, ["train", "reranker", "-m", str(model), *arguments, "--dry-run"])
    return done.exit_code, done.stdout, done.stderr


def test_training_and_the_check_agree(tmp_path: Path, encoder: Path) -> None:
    """Of each file `rerank train check` and training with its defaults, flag for flag, say the same."""
    graded = [{"query": f"q {at}", "docs": ["a", "b", "c", "d"], "labels": [3, 2, 1, 0]} for at in range(4)]
    taught = {"query": "q", "pos": ["a"], "neg": ["b"], "pos_scores": [2], "neg_scores": [1]}
    files = {
        "graded": graded,
        "five": [{"query": "q", "docs": ["a", "b"], "labels": [5, 0]}],
        "positives": [{"query": f"q {at}", "pos": [f"a {at}"], "neg": []} for at in range(8)],
        "negs": [{"query": f"q {at}", "pos": ["a"], "negs": ["b"]} for at in range(40)],
        "taught": [taught],
        "scored": [{"query": "q", "docs": ["a", "b"], "scores": [1, 0]}],
        "nothing": [{"query": "q", "docs": ["a", "b"]}],
        "broken": [{"query": "q", "pos": "a"}],
        "partly": [{"query": "q", "docs": ["a", "b"]}, {"query": "r", "docs": ["a", "b"], "labels": [1, 0]}],
        "partly scored": [{"query": "q", "docs": ["a"], "scores": [1]}, {"query": "r", "pos": ["a"], "neg": ["b"]}],
    }
    cases: list[tuple[str, ...]] = [
        *((name,) for name in files),
        ("graded", "--label-range", "0,3"), ("graded", "--label-range", "rag-retrieval-2024"),
        ("graded", "--set", "data.label_map={3: 1, 2: 1, 1: 1, 0: 1}"), ("five", "--label-range", "0,3"),
        ("taught", "--scores-are", "labels"), ("taught", "--scores-are", "labels", "--label-range", "0,2"),
        ("taught", "--objective", "kl"), ("taught", "--objective", "kl", "--set", "data.label_map={1: 0, 0: 0}"),
        ("taught", "--set", "data.label_map={1: 0, 0: 0}"), ("graded", "--on-error", "drop"),
        ("partly", "--set", "data.group_size=-1"), ("taught", "--set", "train.warmup=5"),
    ]  # fmt: skip
    agreed = {}
    for name, *more in cases:
        path = written(tmp_path, f"{name}.jsonl", *files[name])
        check = CliRunner().invoke(app, ["train", "check", path, *more]).exit_code
        code, _, told = dry("--train", path, *more, model=encoder)
        agreed[(name, *more)] = code

        assert check == code, (name, more, told)
    assert [case for case, code in agreed.items() if code == 0] == [
        ("taught",), *(cases[at] for at in (10, 11, 15, 16, 17))
    ]  # fmt: skip


def test_training_says_what_the_check_says(tmp_path: Path, encoder: Path) -> None:
    """Warnings are counted on stderr with their first places, of the dev set too; stdout is JSON alone."""
    rows = [{"query": f"q {at}", "pos": ["a"], "neg": ["b", "b"], "more": 1} for at in range(9)]
    path = written(tmp_path, "train.jsonl", *rows, {"query": "x", "pos": ["a"]})
    dev = written(tmp_path, "dev.jsonl", {"query": "d", "pos": ["a"], "neg": ["c"]}, {"query": "e", "pos": ["a"]})
    command = [sys.executable, "-m", "rerank_core", "train", "reranker", "--train", path, "--eval", dev, "--dry-run"]
    done = forked.run([*command, "-m", str(encoder)], check=True)
    told = done.stderr

    assert json.loads(done.stdout)["rows"] == 10
    assert "data.train: 10 rows: 0 errors, 11 warnings" in told
    assert "warning: 9 duplicate-docs (the same document twice in one row)" in told
    assert told.count("document 3 has the text of document 2") == 3
    assert "train.jsonl:1: the format pos-neg does not read 'more', which 9 rows of this file have" in told
    assert "data.eval: 2 rows: 0 errors, 1 warnings" in told


@pytest.mark.parametrize(
    ("key", "row", "guess"),
    [
        ("negs", {"query": "q", "pos": ["a"]}, "did you mean 'neg'?"),
        ("hard_negatives", {"query": "q", "pos": ["a"]}, "did you mean 'neg'?"),
        ("negative_s", {"anchor": "q", "positive": "a"}, "did you mean 'negative'?"),
        ("rejected", {"query": "q", "pos": ["a"]}, "rename it, or leave it out"),
    ],
)
def test_a_misspelled_key_is_an_error_where_labels_are_all_one(
    tmp_path: Path, encoder: Path, key: str, row: dict[str, object], guess: str
) -> None:
    """40 rows whose negatives stand under another name are 40 rows of positives: nothing is trained on them."""
    path = written(tmp_path, "train.jsonl", *({**row, key: ["b"], "id": str(at)} for at in range(40)))
    code, out, told = dry("--train", path, model=encoder)

    assert (code, out) == (1, "")
    assert f"does not read {key!r}, which 40 rows of this file have, and all of their labels are 1" in told
    assert guess in told
    assert CliRunner().invoke(app, ["train", "check", path]).exit_code == 1


def test_a_misspelled_key_is_found_beside_good_files(tmp_path: Path, encoder: Path) -> None:
    """Another file's labels do not hide it; `drop` leaves its rows out, and a key that is like no other is no error."""
    good = written(tmp_path, "good.jsonl", *({"query": f"g {at}", "pos": ["a"], "neg": ["b"]} for at in range(3)))
    bad = written(tmp_path, "bad.jsonl", *({"query": f"b {at}", "pos": ["a"], "negs": ["b"]} for at in range(4)))
    extra = written(tmp_path, "extra.jsonl", *({"query": f"e {at}", "pos": ["a"], "url": "u"} for at in range(5)))
    assert dry("--train", good, "--train", bad, model=encoder)[0] == 1
    code, out, _ = dry("--train", good, "--train", bad, "--on-error", "drop", model=encoder)
    assert (code, json.loads(out)["rows"]) == (0, 3)
    code, out, _ = dry("--train", good, "--train", extra, model=encoder)
    assert (code, json.loads(out)["rows"]) == (0, 8)


def test_labels_that_a_teacher_stands_beside_may_be_all_alike(tmp_path: Path, encoder: Path) -> None:
    """Distillation on positives alone is sound, and a key more is no error there."""
    scored = [{"query": f"q {at}", "pos": ["a", "b"], "pos_scores": [2, at], "url": "u"} for at in range(4)]
    path = written(tmp_path, "train.jsonl", *scored)

    assert dry("--train", path, "--objective", "kl", model=encoder)[0] == 0
    assert CliRunner().invoke(app, ["train", "check", path, "--objective", "kl"]).exit_code == 0


def test_the_last_line_of_the_check_does_not_hide_a_misspelled_key(tmp_path: Path) -> None:
    """What is wrong with rows comes before what they lack together, which may follow from it."""
    path = written(tmp_path, "train.jsonl", *({"query": f"q {at}", "pos": ["a"], "negs": ["b"]} for at in range(4)))
    told = CliRunner().invoke(app, ["train", "check", path]).stdout

    assert "did you mean 'neg'?" in told
    assert "rerank train mine" not in told


def test_advice_can_be_followed(tmp_path: Path, encoder: Path) -> None:
    """The label range that the message names, and mining, each make the data fit to train on."""
    graded = written(tmp_path, "graded.jsonl", {"query": "q", "docs": ["a", "b", "c"], "labels": [4, 1.5, 0]})
    told = dry("--train", graded, model=encoder)[2]
    assert "(`--label-range 0,4`)" in told
    assert dry("--train", graded, "--label-range", "0,4", model=encoder)[0] == 0
    assert CliRunner().invoke(app, ["train", "check", graded, "--label-range", "0,4"]).exit_code == 0

    mapped = ("--set", "data.label_map={4: 1, 0: 0}")
    assert "data.label_map must have an entry for each of them" in dry("--train", graded, *mapped, model=encoder)[2]
    mapped = ("--set", "data.label_map={4: 1, 1.5: 0.2, 0: 0}")
    assert dry("--train", graded, *mapped, model=encoder)[0] == 0

    rows = ({"query": f"what is {word}?", "pos": [f"{word} is a thing"]} for word in ("tin", "zinc", "lead", "iron"))
    positives, mined = written(tmp_path, "positives.jsonl", *rows), str(tmp_path / "mined.jsonl")
    assert "`rerank train mine FILES --out mined.jsonl`" in dry("--train", positives, model=encoder)[2]
    done = CliRunner().invoke(app, ["train", "mine", positives, "--out", mined])
    assert done.exit_code == 0, done.output
    assert dry("--train", mined, model=encoder)[0] == 0
