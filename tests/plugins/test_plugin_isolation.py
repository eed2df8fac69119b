"""A plugin stops nothing but itself, whatever it raises, prints or returns, and whenever it is asked."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import rerank_core
from helpers.plugin_factory import install
from rerank_core import CheckpointError, PluginError
from rerank_core.doctor import examine
from rerank_core.plugins.discovery import DISABLE, PluginRecord
from rerank_core.plugins.isolation import stdout_to_stderr
from rerank_core.plugins.registry import Registry

Discover = Callable[[], Registry]

CLASSIFIER = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}

HOOKS = """
    import sys
    from rerank_core import CheckpointError, ModelSpec, hookimpl

    class Odd(Exception):
        def __str__(self):
            raise ValueError

    class Lazy(ModelSpec):
        @property
        def names(self):
            raise RuntimeError("later")

    {hook}
"""


def plugin(folder: Path, name: str, hook: str) -> None:
    """A plugin with one hook, whose lines are at the margin."""
    install(folder, name, HOOKS.format(hook=hook.replace("\n", "\n    ")))


def record(found: Registry, name: str) -> PluginRecord:
    """The record of one plugin."""
    return next(own for own in found.plugins if own.name == name)


def folder_of(tmp_path: Path, config: dict[str, object]) -> Path:
    """A checkpoint directory that has no more than a configuration."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


MATCH = "@hookimpl\ndef rerank_match_checkpoint(directory):\n    {body}"
RAISED = ["raise RuntimeError('oh')", "sys.exit(3)", "raise KeyboardInterrupt", "raise Odd", "raise BaseException",
          "raise GeneratorExit", "return 7", "return [1]", "return Lazy(name='lazy', scorer='a:b')"]  # fmt: skip


@pytest.mark.parametrize("body", RAISED)
def test_one_that_fails_keeps_no_other_from_a_directory(body: str, tmp_path: Path, discover: Discover) -> None:
    """Where one plugin fails on a directory, another one that knows it still answers, and so does the core."""
    plugin(tmp_path, "bad", MATCH.format(body=body))
    folder = folder_of(tmp_path, CLASSIFIER)
    assert discover().resolve(str(folder)).name == "checkpoint"

    plugin(tmp_path, "good", MATCH.format(body="return ModelSpec(name='known', scorer='rerank_good:make')"))
    assert discover().resolve(str(folder)).name == "known"


@pytest.mark.parametrize("body", RAISED)
def test_where_nobody_takes_a_directory_the_failure_is_named(body: str, tmp_path: Path, discover: Discover) -> None:
    """A directory that nobody knows is a CheckpointError that names the plugin which could not say."""
    plugin(tmp_path, "bad", MATCH.format(body=body))
    with pytest.raises(CheckpointError, match=r"(?s)no reranker.*'bad' (could not open|opened)"):
        discover().resolve(str(folder_of(tmp_path, {"architectures": ["BertModel"]})))


def test_a_plugin_may_say_that_a_directory_is_damaged(tmp_path: Path, discover: Discover) -> None:
    """A CheckpointError of the hook is about the files: it is raised as it is, unless another plugin takes them."""
    plugin(tmp_path, "bad", MATCH.format(body="raise CheckpointError('its projection is missing')"))
    folder = folder_of(tmp_path, CLASSIFIER)
    with pytest.raises(CheckpointError, match="its projection is missing"):
        discover().resolve(str(folder))

    plugin(tmp_path, "good", MATCH.format(body="return ModelSpec(name='known', scorer='rerank_good:make')"))
    assert discover().resolve(str(folder)).name == "known"


@pytest.mark.parametrize("body", ["sys.exit(3)", "raise KeyboardInterrupt", "raise Odd", "raise BaseException('oh')"])
def test_opening_fails_with_the_plugins_name(body: str, tmp_path: Path, discover: Discover) -> None:
    """Whatever `rerank_open_model` raises is a PluginError that names the plugin."""
    plugin(tmp_path, "bad", f"@hookimpl\ndef rerank_open_model(source):\n    {body}")
    with pytest.raises(PluginError, match="'bad' could not open 'x'"):
        discover().resolve("bad:x")


@pytest.mark.parametrize("body", ["sys.exit(3)", "raise KeyboardInterrupt", "raise Odd", "raise BaseException('oh')"])
def test_a_factory_that_exits_is_a_plugin_error(body: str, tmp_path: Path, discover: Discover) -> None:
    """Loading a model never ends the process that loads it."""
    hook = (
        "@hookimpl\ndef rerank_register_models(register):\n"
        "    register(ModelSpec(name='bad', scorer='rerank_bad:make'))"
        f"\ndef make(spec, options):\n    {body}"
    )
    plugin(tmp_path, "bad", hook)
    with pytest.raises(PluginError, match="'bad' is scored by 'rerank_bad:make', which failed"):
        rerank_core.load("bad")


REGISTER = "@hookimpl\n{kind} rerank_register_models(register):\n    {body}"


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (REGISTER.format(kind="def", body="yield register(1)"), "generator or coroutine"),
        (REGISTER.format(kind="async def", body="register(1)"), "generator or coroutine"),
        (REGISTER.format(kind="async def", body="yield register(1)"), "generator or coroutine"),
        ("@hookimpl\ndef rerank_match_checkpoint(directory):\n    yield", "generator or coroutine"),
        ("@hookimpl\nasync def rerank_open_model(source):\n    return None", "generator or coroutine"),
        (REGISTER.format(kind="def", body="return [ModelSpec(name='a', scorer='x:y')]"), "returned .*call register"),
        (REGISTER.format(kind="def", body="return (register(s) for s in [])"), "returned .*call register"),
        ("@hookimpl(hookwrapper=True)\ndef rerank_register_models(register):\n    yield", "is a wrapper"),
        ("@hookimpl(wrapper=True)\ndef rerank_register_models(register):\n    return (yield)", "is a wrapper"),
        (REGISTER.format(kind="def", body="register(Lazy(name='a', scorer='x:y'))"), "it takes a ModelSpec"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name=7, scorer='x:y'))"), "kebab-case"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name='a' * 200, scorer='x:y'))"), "kebab-case"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name='owner/a', scorer='x:y'))"), "kebab-case"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name='a', scorer='x:y', checkpoint=7))"), "checkpoint"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name='a', scorer='x:y', description=7))"), "description"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name='a', scorer='x:y', options=7))"), "options"),
        (REGISTER.format(kind="def", body="register(ModelSpec(name='a', scorer='x:y', options=(7,)))"), "options"),
        (REGISTER.format(kind="def", body="raise KeyboardInterrupt"), "KeyboardInterrupt"),
        (REGISTER.format(kind="def", body="raise Odd"), "Odd"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("RERANK_API_VERSION = '1'", "hook API '1'"),
        ("def __getattr__(name): raise RuntimeError('no ' + name)", "RERANK_API_VERSION"),
    ],
)
def test_what_would_be_lost_is_invalid_and_the_doctor_says_so(
    hook: str, said: str, tmp_path: Path, discover: Discover
) -> None:
    """A hook that would never run, or whose answer nobody reads, is a fault of its plugin; its neighbour works."""
    plugin(tmp_path, "bad", hook)
    install(tmp_path, "acme")
    found = discover()

    assert record(found, "acme").status == "ok"
    assert record(found, "bad").status in ("invalid", "failed", "incompatible")
    assert re.search(said, record(found, "bad").error)
    assert any(check.name == "plugin bad" and check.status == "fail" for check in examine(known=found))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("entry_points.txt", b"[rerank_core]\nno equals sign\n"),
        ("entry_points.txt", b"[rerank_core]\n\xff\xfe = rerank_x\n"),
        ("entry_points.txt", b"[rerank_core]\nodd = not a module!\n"),
        ("METADATA", b""),
        ("METADATA", b"\xff\xfe\x00"),
        ("METADATA", None),
    ],
)
def test_damaged_metadata_breaks_only_its_distribution(
    file: str, content: bytes | None, tmp_path: Path, discover: Discover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted pip leaves of one distribution keeps no other plugin from being found."""
    install(tmp_path, "odd")
    damaged = next(tmp_path.glob("rerank_odd-*.dist-info")) / file
    if content is None:
        damaged.unlink()
    else:
        damaged.write_bytes(content)
    install(tmp_path, "acme")
    found = discover()

    assert record(found, "acme").status == "ok"
    assert found.resolve("acme:acme-small").scorer == "rerank_acme:make"
    assert examine(known=found)


PRINTS = """
    import os, sys
    print("imported")
    from rerank_core import ModelSpec, hookimpl

    @hookimpl
    def rerank_register_models(register):
        print("asked")
        register(ModelSpec(name="noisy", scorer="rerank_noisy:make"))

    @hookimpl
    def rerank_match_checkpoint(directory):
        print("matching")

    def make(spec, options):
        from rerank_core.testing import FakeTextScorer
        print("made")

        class Noisy(FakeTextScorer):
            def score(self, query, docs):
                print("scored")
                return super().score(query, docs)

        return Noisy()
"""


def test_what_plugins_print_does_not_spoil_json(tmp_path: Path) -> None:
    """stdout is JSON and nothing else, whatever a plugin prints when it is imported, asked, loaded or scoring; and a
    plugin that prints on stderr or exits does not change the exit code."""
    install(tmp_path, "noisy", PRINTS)
    install(tmp_path, "leaving", "import sys; print('bye'); sys.exit(3)")
    install(tmp_path, "stopping", "raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    folder = str(folder_of(tmp_path, CLASSIFIER))
    for arguments in (["models"], ["models", folder], ["plugins"], ["rank", "q", "-m", "noisy"]):
        command = [sys.executable, "-m", "rerank_core", *arguments, "--json"]
        done = subprocess.run(command, input=b"tea", capture_output=True, env=environment, check=False)
        assert json.loads(done.stdout), done.stderr
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
        assert b"imported" in done.stderr


def test_output_comes_back_whatever_the_order_threads_leave_in(capsys: pytest.CaptureFixture[str]) -> None:
    """Two blocks that overlap, as two threads make them, leave stdout as it was."""
    before, one, two = sys.stdout, stdout_to_stderr(), stdout_to_stderr()
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    print("aside")
    two.__exit__(None, None, None)

    assert sys.stdout is before
    assert capsys.readouterr() == ("", "aside\n")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_while_a_plugin_is_read_is_the_users(tmp_path: Path, discover: Discover) -> None:
    """A signal that arrives while a plugin's code runs is no fault of the plugin."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        install(tmp_path, "slow", "import signal\nsignal.raise_signal(signal.SIGINT)")
        with pytest.raises(KeyboardInterrupt):
            discover()
    finally:
        signal.signal(signal.SIGINT, kept)


def test_a_broken_distribution_can_be_switched_off(
    tmp_path: Path, discover: Discover, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the doctor advises works: the distribution that cannot be read is named, and can be switched off."""
    install(tmp_path, "odd")
    next(tmp_path.glob("rerank_odd-*.dist-info")).joinpath("entry_points.txt").write_bytes(b"[rerank_core]\nodd\n")
    check = next(check for check in examine(known=discover()) if check.name == "plugin rerank_odd")
    assert f"{DISABLE}=rerank_odd" in check.fix
    monkeypatch.setenv(DISABLE, "rerank_odd")

    assert all(own.name != "rerank_odd" for own in discover().plugins)
