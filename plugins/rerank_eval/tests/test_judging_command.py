"""`rerank eval` on data without labels: a judge behind an endpoint, a model as a judge, clicks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from helpers.grading_server import KEY, grading_server
from helpers.plugin_factory import install
from rerank_core import InputError, RerankError
from rerank_core.plugins import registry
from rerank_eval.cli import app
from rerank_eval.cli.labels import LabelFlags

MODELS = ["-m", "toy-words", "-m", "toy-lists"]

SHARED = '''
"""A judge: the number of shared words less 1.5."""

from rerank_core import ModelSpec, hookimpl


class Shared:
    def __init__(self, spec, options):
        pass

    def score(self, query, docs):
        return [sum(word in query.split() for word in doc.split() if word != "what") - 1.5 for doc in docs]


@hookimpl
def rerank_register_models(register):
    register(ModelSpec(name="shared-words", scorer="rerank_shared:Shared"))
'''


@pytest.fixture(autouse=True)
def folder(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Run in a temporary folder, with the models for tests and a file of four queries without labels."""
    registry.default.cache_clear()
    install(toys, "shared", SHARED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    rows = [
        {"query": f"what is word{at}", "docs": [f"word{at} is it", f"what is tin{at}", f"paris{at}"]} for at in range(4)
    ]
    (tmp_path / "dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    yield tmp_path
    registry.default.cache_clear()


def evaluated(*arguments: str) -> tuple[dict[str, Any], str]:
    """The JSON of the command, and what it said."""
    result = CliRunner().invoke(app, [*MODELS, "-d", "dev.jsonl", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["sets"][0], result.stderr


def test_a_judge_behind_an_endpoint(folder: Path) -> None:
    pytest.importorskip("openai", reason="the client library of rerank-eval[judge] is not installed")
    with grading_server() as server:
        flags = ["--judge-url", server.url, "--judge-model", "tiny", "--judge-depth", "2"]
        found, said = evaluated(*flags)
        assert found["label_source"] == "tiny"
        assert "dev: labels are those of tiny, for the 2 best candidates of each model: 8 pairs, 8 of grade 2" in said
        assert found["facts"]["unjudged"] == 4
        assert {row["judged"] < 1 for row in found["rows"]} == {True}
        asked = len(server.seen)
        again = evaluated(*flags)[0]
        assert [row["per_query"] for row in again["rows"]] == [row["per_query"] for row in found["rows"]]
        assert len(server.seen) == asked


def test_a_model_as_a_judge_and_clicks(folder: Path) -> None:
    clicks = [{"query": f"what is word{at}", "doc": f"word{at} is it", "clicked": True} for at in range(3)]
    (folder / "clicks.jsonl").write_text("\n".join(map(json.dumps, clicks)))
    found, said = evaluated("--labels", "clicks.jsonl")
    assert (found["label_source"], found["queries"]) == ("clicked", 3)
    assert "dev: labels by clicked: 3 pairs, from 3 records" in said
    found, said = evaluated("--labels", "clicks.jsonl", "--judge", "shared-words,name=words")
    assert (found["label_source"], found["queries"]) == ("words", 4)
    assert "dev: a document is relevant from a raw score of 0 (the model's own probability of 0.5)" in said
    assert "dev: on 3 labelled pairs the judge agrees on 100%" in said


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"judge": "a", "judge_url": "b", "judge_model": "c"}, "both given"),
        ({"judge_url": "b"}, "belong together"),
        ({"judge_model": "c"}, "belong together"),
    ],
)
def test_flags_that_exclude_each_other_are_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelFlags(**flags)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--judge", "toy-word"], "Did you mean toy-words"),
        (["--judge", "toy-lists"], "'toy-lists' orders lists"),
        (["--judge", "shared-words,lenght=3"], "unknown option 'lenght'"),
        (["--judge", "shared-words,calibration=nosuch.json"], "there is no such file"),
        (["--judge-url", "localhost:8000/v1", "--judge-model", "m"], "must begin with http:// or https://"),
    ],
)
def test_an_unusable_judge_is_refused_before_models_run(flags: list[str], message: str) -> None:
    if "--judge-url" in flags:
        pytest.importorskip("openai", reason="the client library of rerank-eval[judge] is not installed")
    with pytest.raises(RerankError, match=message):
        CliRunner().invoke(app, ["-m", "toy-words,log=log", "-d", "dev.jsonl", *flags], catch_exceptions=False)
    assert not Path("log").exists()
