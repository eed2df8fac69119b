"""The `rerank` command: results on stdout, the rest on stderr, errors in one line, exit codes that mean something."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import rerank_core
from helpers.plugin_factory import install
from rerank_core.cli import app
from rerank_core.plugins import registry

ACME = """
    from rerank_core import Head, ModelOption, ModelSpec, hookimpl

    @hookimpl
    def rerank_register_models(register):
        options = (ModelOption("layer", "int", "the layer to stop at", default=28, choices=(16, 28)),)
        register(ModelSpec(name="acme", head=Head.classifier(), scorer="rerank_acme:make", max_length=16,
                           options=options, description="words in common", languages=("en", "zh"), license="MIT"))

    def make(spec, options):
        from rerank_core.testing import FakeScorer
        return FakeScorer()
"""
LONG = " ".join(["filler"] * 30 + ["panda"] + ["filler"] * 5)


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model without weights, 16 tokens a row; returns the folder it is installed in."""
    folder = tmp_path / "site"
    install(folder, "acme", ACME)
    monkeypatch.syspath_prepend(folder)
    registry.default.cache_clear()
    yield folder
    registry.default.cache_clear()
    for name in [name for name in sys.modules if name in ("rerank_acme", "rerank_other", "rerank_broken")]:
        del sys.modules[name]


def rerank(*arguments: str, stdin: str | None = None) -> Result:
    """Run the command in this process; anything but an exit is a failure of the test."""
    result = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="rerank", catch_exceptions=False)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def rank(*arguments: str, stdin: str | None = None) -> Any:
    """``rerank rank panda --json`` with the fake model, parsed; stdout holds JSON and nothing else."""
    result = rerank("rank", "panda", "-m", "acme", "--json", *arguments, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


# ---------------------------------------------------------------------- rank
@pytest.mark.parametrize(
    ("example", "model", "answers"),
    [
        (0, "mini", {"fridge-before-holiday", "stiff-starter", "dried-flakes", "neighbour"}),
        (1, "mini-multilingual", {"轻微浮锈", "白醋除锈", "除锈之后"}),
    ],
)
def test_the_examples_rank_sensibly(
    example: int, model: str, answers: set[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of `make try`: the real small models put the documents that answer the question first."""
    commands = [line for line in (root / "Makefile").read_text("utf-8").splitlines() if "$(BIN)/rerank rank" in line]
    monkeypatch.chdir(root)
    result = rerank(*shlex.split(commands[example].replace("$(BIN)/rerank", "")), "--json")
    data = json.loads(result.stdout)

    assert len(commands) == 2
    assert {hit["id"] for hit in data["hits"][: len(answers)]} == answers
    assert (data["schema_version"], data["model"], len(data["hits"])) == (1, model, 5)
    assert data["hits"][0]["metadata"].keys() == {"title"}
    assert "warning" not in result.stderr


def test_table_goes_to_stdout_and_the_rest_to_stderr(tmp_path: Path) -> None:
    """Where stdout is no terminal, ids are whole however long, lines are not padded, and nothing is coloured."""
    name = "a-very-long-name-" * 8
    (tmp_path / name).write_text("panda\n\tbear " + "x" * 200, encoding="utf-8")
    result = rerank("rank", "panda", str(tmp_path / name), "-", "-m", "acme", stdin='{"text": "tea"}')

    header, first, second = result.stdout.splitlines()
    assert header.split() == ["rank", "score", "id", "text"]
    assert first.split()[2:5] == [str(tmp_path / name), "panda", "bear"]
    assert second == "   2  0.0000  #1" + " " * (len(str(tmp_path / name)) - 2) + "  tea"
    assert "\x1b" not in result.output
    assert "acme · 2 documents · logit scores" in result.stderr


def test_documents_do_not_steer_the_terminal() -> None:
    """Control characters of a document are not written."""
    result = rerank("rank", "panda", "-m", "acme", "--explain", stdin='{"text": "panda \\u001b[31mred \\u0007"}')

    assert not set(result.stdout) & {"\x1b", "\x07"}
    assert "panda" in result.stdout


def test_explain_shows_the_passage_that_won() -> None:
    """Under each hit stand the span, score and text of its best passage, and how many there were."""
    best = max(rank(stdin=LONG)["hits"][0]["passages"], key=lambda passage: passage["score"])
    result = rerank("rank", "panda", "-m", "acme", "--explain", stdin=LONG)

    assert f"characters {best['start']}-{best['stop']} of {len(LONG)}" in result.stdout
    assert f"raw score {best['score']:.4f}" in result.stdout
    assert "the best of 4 passages" in result.stdout
    assert " ".join(LONG[best["start"] : best["stop"]].split()) in " ".join(result.stdout.split())


def test_a_script_that_the_model_does_not_read_is_said() -> None:
    """On stderr once, with the name of a model that reads it; stdout is the ranking as always."""
    warning = (
        "warning: the query is written in Cyrillic letters, which 'acme' (languages: en, zh) does not read; load "
        "'mini-multilingual' (pip install rerank-mini) or another model that reads it\n"
    )
    result = rerank("rank", "панда", "-m", "acme", "--json", stdin="панда\nчай")

    assert result.stderr == warning
    assert [hit["index"] for hit in json.loads(result.stdout)["hits"]] == [0, 1]


def test_what_was_cut_is_said() -> None:
    """Documents and queries that were not read to the end are warned about, by name."""
    cut = rerank("rank", "panda bear", "-m", "acme", "--longdoc", "firstp", "--max-query-length", "1", stdin=LONG)
    whole = rerank("rank", "panda bear", "-m", "acme", stdin=LONG)

    assert "1 document was not read to the end: stdin:1" in cut.stderr
    assert "the query was cut" in cut.stderr
    assert "warning" not in whole.stderr


def test_hits_are_limited() -> None:
    """``--top-k`` and ``--min-score`` limit the hits; none at all is no error."""
    documents = "tea\npanda\nred panda"

    assert [hit["id"] for hit in rank("-k", "1", stdin=documents)["hits"]] == ["stdin:2"]
    assert [hit["id"] for hit in rank("--min-score", "0.1", stdin=documents)["hits"]] == ["stdin:2", "stdin:3"]
    assert rank("--min-score", "99", stdin=documents)["hits"] == []
    assert "0 of 3 documents" in rerank("rank", "q", "-m", "acme", "--min-score", "99", stdin=documents).stderr


def test_several_devices_give_the_scores_of_one() -> None:
    """A copy on each, joined by a comma; a device that is not there ends the command."""
    texts = "panda\nno\nred panda\n" * 9
    of_one, of_two = (rank("--device", device, stdin=texts)["hits"] for device in ("cpu", "cpu,cpu"))
    assert of_one == of_two
    assert len(of_two) == 27
    assert rerank("rank", "q", "-m", "acme", "--device", "cpu,cuda:98", stdin=texts).exit_code == 1


def test_options_reach_the_model() -> None:
    """Flags and ``-o KEY=VALUE`` both arrive, JSON values with their type."""
    assert len(rank("--max-length", "40", stdin=LONG)["hits"][0]["passages"]) == 1
    assert len(rank("-o", "max_length=40", "-o", "layer=16", stdin=LONG)["hits"][0]["passages"]) == 1
    assert rank("--activation", "sigmoid", stdin="tea")["score_space"] == "probability"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-o", "layer"], 2, "must be KEY=VALUE"),
        (["-o", "layer=16", "-o", "layer=28"], 2, "given twice"),
        (["-o", "overlap=1", "--overlap", "2"], 2, "given twice"),
        (["-k", "0"], 2, "--top-k"),
        (["--format", "xml"], 2, "jsonl"),
        (["-o", "x=" + "[" * 50_000], 2, "nested too deeply"),
        (["-o", "x=" + '{"a":' * 20_000], 2, "nested too deeply"),
        (["x" * 5000], 1, "cannot be read: File name too long"),
        (["-m", "x" * 5000], 1, "no installed plugin has a model named 'xxx"),
        (["-m", "./" + "x" * 5000], 1, "no such directory"),
        (["--checkpoint", "x" * 5000], 1, "nor a hub id like"),
        (["--min-score", "nan"], 1, "error: min_score is nan"),
        (["--device", ""], 1, "error: device is ''"),
        (["-o", "layer=17"], 1, "error: option layer=17 must be one of 16, 28"),
        (["-o", "layers=16"], 1, "Did you mean 'layer'?"),
        (["--longdoc", "best"], 1, "error: longdoc is 'best'"),
        (["-m", "acmee"], 1, "Did you mean acme?"),
        (["no-such-file"], 1, "error: 'no-such-file' cannot be read"),
        (["--encoding", "klingon"], 1, "error: encoding is 'klingon'"),
        (["--format", "jsonl"], 1, "error: stdin:1: not JSON"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, said: str) -> None:
    """Wrong usage exits with 2, what this library refuses with 1 and one line on stderr; stdout stays empty."""
    result = rerank("rank", "panda", "-m", "acme", *arguments, stdin="tea")

    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert code == 2 or result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["SECRET"],
        ["=SECRET"],
        ["api_key SECRET"],
        ["api_key:SECRET"],
        ["api_key=SECRET", "api_key=SECRET"],
        ["api_key=" + "[" * 50_000 + "SECRET"],
        ["api_key=SECRET"],
        ['api_key={"value": "SECRET"}'],
    ],
)
def test_no_message_shows_the_value_of_an_option(options: list[str]) -> None:
    """The value may be an API key, so no message shows it: neither of a malformed nor of an unknown option."""
    flags = [argument for assignment in options for argument in ("--option", assignment)]
    result = rerank("rank", "panda", "-m", "acme", *flags, stdin="tea")

    assert result.exit_code in (1, 2)
    assert "SECRET" not in result.output


# ---------------------------------------------------------------------- models, plugins
def test_models_are_listed_with_their_facts() -> None:
    """Every model has a line and an entry, with the plugin that brings it."""
    table = rerank("models").stdout.splitlines()
    listed = {model["name"]: model for model in json.loads(rerank("models", "--json").stdout)["models"]}

    assert [line.split()[0] for line in table[1:]] == [spec.name for spec in rerank_core.models()]
    assert listed["acme"].items() >= {"plugin": "acme", "distribution": "rerank_acme", "max_length": 16}.items()
    assert listed["mini"]["license"] == "Apache-2.0"


def test_one_model_is_told_with_its_options() -> None:
    """A name, alias or plugin:name shows all facts, the options with their values and defaults."""
    told = rerank("models", "acme:acme").stdout
    (data,) = json.loads(rerank("models", "acme", "--json").stdout)["models"]

    assert "words in common" in told
    assert "layer   16 | 28  28       load  the layer to stop at" in told
    assert data["options"][0].items() >= {"name": "layer", "default": 28, "choices": [16, 28]}.items()
    assert rerank("models", "acmee").exit_code == 1


def test_contested_names_are_marked(acme: Path) -> None:
    """A name that two plugins claim stands in the list once for each, with what to write instead."""
    install(acme, "other", model="acme")
    listing = rerank("models")

    assert "acme:acme (contested)" in listing.stdout
    assert "other:acme (contested)" in listing.stdout
    assert "acme (acme, other)" in listing.stderr
    assert "acme:acme" in rerank("models", "acme").stderr


def test_broken_plugin_is_told_and_breaks_nothing(acme: Path) -> None:
    """`plugins` says what happened, `models` lists the others and warns, and `doctor` exits with 1."""
    install(acme, "broken", "import no_such_thing")
    records = {plugin["name"]: plugin for plugin in json.loads(rerank("plugins", "--json").stdout)["plugins"]}

    assert (records["broken"]["status"], records["acme"]["status"]) == ("failed", "ok")
    assert "no_such_thing" in rerank("plugins").stdout
    assert "broken" in rerank("models").stderr
    assert rank(stdin="panda")["hits"]
    doctor = rerank("doctor")
    assert doctor.exit_code == 1
    assert "fail  plugin broken" in doctor.stdout


# ---------------------------------------------------------------------- the command itself
@pytest.mark.parametrize("arguments", [[], ["rank"], ["models"], ["plugins"], ["doctor"]])
def test_help_has_examples(arguments: list[str]) -> None:
    """Every command explains itself with examples."""
    result = rerank(*arguments, "--help")

    assert result.exit_code == 0
    assert "Examples:\n" in result.stdout
    assert "rerank " + " ".join(arguments) in result.stdout


def test_without_a_command_help_is_shown() -> None:
    """A bare `rerank` shows the commands; `--version` says which one this is."""
    assert "Commands:" in rerank().output
    assert rerank("--version").stdout == f"rerank-core {rerank_core.__version__}\n"


@pytest.mark.parametrize("command", ["models", "plugins", "--help"])
def test_listings_import_nothing_heavy(command: str) -> None:
    """What needs no model imports neither torch nor transformers nor numpy."""
    code = (
        "import sys; from rerank_core.cli import app; app(sys.argv[1:], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, b"")
