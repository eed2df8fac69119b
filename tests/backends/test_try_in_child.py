"""A child process opens an untrusted tokenizer or chat template first, and its crash does not end this process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rerank_core
from rerank_core import CheckpointError
from rerank_core.backends import try_in_child
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder

_SERVER = """
import json, pathlib, sys
import rerank_core
from rerank_core.backends.tokenizer import TextTokenizer
from rerank_core.backends.try_in_child import try_template
for line in sys.stdin:
    folder, template = json.loads(line)
    try:
        if template is None:
            TextTokenizer.from_directory(folder)
        else:
            try_template(template, [{"messages": [{"role": "user", "content": "x"}]}], pathlib.Path(folder))
        answer = "fine"
    except rerank_core.CheckpointError as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""
_ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% set all = namespace(x='xx') %}{% for a in range(70) %}{% set all.x = all.x ~ all.x %}{% endfor %}",
    "{{ 'x' * 10**12 }}",
    "{{ 'x' | center(10**12) }}",
    "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
]


@pytest.fixture
def nothing_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No content has been tried yet in this process."""
    monkeypatch.setattr(try_in_child, "_passed", set())


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a byte-pair tokenizer."""
    return tiny_causal_lm(tmp_path_factory.mktemp("causal") / "model")


def changed(source: Path, folder: Path, **settings: Any) -> Path:
    """A folder with a tokenizer whose model has other settings."""
    folder.mkdir()
    saved = json.loads((source / "tokenizer.json").read_text("utf-8"))
    saved["model"].update(settings)
    (folder / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")
    return folder


def test_a_server_outlives_all_of_it(causal: Path, tmp_path: Path) -> None:
    """One process loads tokenizers that abort or panic and renders templates that never end; it gets an error that
    names each folder within seconds, and then loads a valid one."""
    requests: list[tuple[str, str | None]] = [
        (str(changed(causal, tmp_path / "abort", continuing_subword_prefix="\0")), None),
        (str(changed(causal, tmp_path / "panic", continuing_subword_prefix="é")), None),
        (str(changed(causal, tmp_path / "dropout", dropout=5)), None),
        *((str(tmp_path / "template"), source) for source in _ENDLESS),
        (str(causal), None),
    ]

    done = subprocess.run(
        [sys.executable, "-c", _SERVER],
        input="".join(json.dumps(each) + "\n" for each in requests),
        capture_output=True, text=True, encoding="utf-8", timeout=240, check=False,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert len(answers) == len(requests)
    for (folder, _), answer in zip(requests[:-1], answers, strict=False):
        assert folder in answer
    assert answers[-1] == "fine"


@pytest.mark.usefixtures("nothing_passed")
def test_a_content_is_tried_once(causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second load of a folder or of its copy starts no process, and a file that has changed is tried again."""
    started: list[Any] = []
    real = subprocess.run
    monkeypatch.setattr(try_in_child.subprocess, "run", lambda *a, **k: started.append(a) or real(*a, **k))
    folder = changed(causal, tmp_path / "model")
    TextTokenizer.from_directory(folder)
    assert len(started) == 1
    TextTokenizer.from_directory(folder)
    TextTokenizer.from_directory(changed(causal, tmp_path / "copy"))
    assert len(started) == 1

    (folder / "tokenizer.json").unlink()
    folder.rmdir()
    changed(causal, folder, continuing_subword_prefix="\0")
    with pytest.raises(CheckpointError, match="crashes on this tokenizer"):
        TextTokenizer.from_directory(folder)
    assert len(started) == 2


@pytest.mark.usefixtures("nothing_passed")
def test_files_of_an_installed_package_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded model starts no process at load: its package could run code anyway."""
    monkeypatch.setattr(try_in_child.subprocess, "run", None)

    assert rerank_core.load("mini", device="cpu").score([("a", "b")])


@pytest.mark.usefixtures("nothing_passed")
@pytest.mark.parametrize("without", ["executable", "frozen"])
def test_where_no_python_can_be_started_known_faults_are_refused(
    without: str, causal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embedded and frozen programs have no interpreter to start: they open files themselves, and refuse values that
    are known to abort."""
    if without == "executable":
        monkeypatch.setattr(sys, "executable", None)
    else:
        monkeypatch.setattr(sys, "frozen", True, raising=False)

    assert TextTokenizer.from_directory(changed(causal, tmp_path / "good")).encode(["panda"])
    with pytest.raises(CheckpointError, match=r"continuing_subword_prefix is '\\x00'"):
        TextTokenizer.from_directory(changed(causal, tmp_path / "abort", continuing_subword_prefix="\0"))


def test_a_text_that_breaks_a_tokenizer_is_no_bare_exception(tmp_path: Path) -> None:
    """A vocabulary without its unknown token loads in tokenizers and fails at the first unknown character: it is
    refused at load, and an error of a call is typed too."""
    folder = tiny_cross_encoder(tmp_path / "model", "bert")
    whole = TextTokenizer.from_directory(folder)
    saved = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    saved["model"]["unk_token"] = "[GONE]"
    (folder / "tokenizer.json").write_text(json.dumps(saved), encoding="utf-8")

    with pytest.raises(CheckpointError, match=r"tokenizer.*GONE|Missing \[UNK\]"):
        TextTokenizer.from_directory(folder)
    broken = TextTokenizer(type(whole.raw).from_str(json.dumps(saved)), parse_special_tokens=True)
    with pytest.raises(CheckpointError, match="the tokenizer fails on a text"):
        broken.encode(["\U0001f9ff"])


def test_templates_are_rendered_as_transformers_renders_them(causal: Path) -> None:
    """The trial has the functions that transformers gives a template, so that no template that works there is
    refused."""
    source = (
        "{%- if not messages %}{{ raise_exception('none') }}{% endif %}{% for m in messages %}{% if loop.last %}"
        "{% generation %}{{ m | tojson(indent=1) }}{% endgeneration %}{% break %}{% endif %}{% endfor %}"
        "{{ strftime_now('%Y') }}{% set n = namespace(a=1) %}{% set n.a = 2 %}{{ n.a }}{{ dict(a=1).a }}"
    )

    try_in_child.try_template(source, [{"messages": [{"role": "user", "content": "x"}]}], causal)
    with pytest.raises(CheckpointError, match=r"the template cannot be read: .*none"):
        try_in_child.try_template(source, [{"messages": []}], causal)


@pytest.mark.usefixtures("nothing_passed")
@pytest.mark.timing
def test_a_trial_is_short(causal: Path, tmp_path: Path) -> None:
    """The process imports neither torch nor this package: a tenth of a second, several on a busy machine."""
    start = time.perf_counter()
    TextTokenizer.from_directory(changed(causal, tmp_path / "copy"))

    assert time.perf_counter() - start < 5
