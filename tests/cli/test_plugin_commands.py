"""Commands that plugins add to ``rerank``: listed without being imported, imported when they are called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from helpers.plugin_factory import install
from rerank_core.cli import app
from rerank_core.plugins import registry
from rerank_core.plugins.registry import Registry

Discover = Callable[[], Registry]

ADDS = """
    from rerank_core import hookimpl

    @hookimpl
    def rerank_register_commands(register):
        register("{command}", "{target}", "Greet politely.")
"""


@pytest.fixture
def run(discover: Discover, monkeypatch: pytest.MonkeyPatch) -> Callable[..., object]:
    """The command line with the plugins that a test installs."""

    def run(*arguments: str) -> object:
        monkeypatch.setattr("rerank_core.cli.plugin_commands.default", discover)
        return CliRunner().invoke(app, list(arguments))

    return run


def greeter(folder: Path, name: str, body: str = "") -> None:
    """A module with a Typer app that has one command."""
    (folder / f"{name}.py").write_text(
        body
        or "import typer\napp = typer.Typer()\n\n@app.command()\ndef greet(name: str) -> None:\n"
        "    typer.echo(f'hello {name}')\n",
        encoding="utf-8",
    )


def test_a_command_is_listed_unimported_and_runs(tmp_path: Path, run: Callable[..., object]) -> None:
    """The help text names it although its module cannot be imported yet; called, it is imported and gets its words."""
    install(tmp_path, "polite", ADDS.format(command="greet", target="greeting_app:app"))
    listed = run("--help")
    assert "Greet politely." in listed.output
    assert run("greet", "Ann").exit_code == 1, "its module is not there yet"
    greeter(tmp_path, "greeting_app")

    done = run("greet", "Ann")
    assert (done.exit_code, done.output) == (0, "hello Ann\n")


def test_a_command_that_is_claimed_twice_names_both(tmp_path: Path, run: Callable[..., object]) -> None:
    """Neither wins silently, and every other command works."""
    for name in ("one", "two"):
        install(tmp_path, name, ADDS.format(command="greet", target="any:app"))
    done = run("greet", "Ann")
    assert done.exit_code == 1
    assert "rerank_one" in done.output
    assert "rerank_two" in done.output
    assert run("models", "--json").exit_code == 0


def test_our_own_commands_are_not_to_be_replaced(tmp_path: Path, run: Callable[..., object]) -> None:
    """A plugin that claims `rank` is not asked when `rank` is called."""
    install(tmp_path, "sly", ADDS.format(command="rank", target="any:app"))
    assert "Rank documents for a query." in run("rank", "--help").output


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import not_there_at_all", "needs 'not_there_at_all'"),
        ("app = 7", "not a Typer app"),
        ("other = 7", "is broken"),
        ("raise ValueError('boom')", "is broken: ValueError: boom"),
        ("import sys\nsys.exit(3)", "is broken: SystemExit: 3"),
        ("raise KeyboardInterrupt", "is broken: KeyboardInterrupt"),
        ("import typer\napp = typer.Typer()\n@app.command()\ndef greet() -> None: 1 / 0", "failed: ZeroDivisionError"),
        (
            "import typer\napp = typer.Typer()\n@app.command()\ndef greet() -> None: open('/no/such/file')",
            "FileNotFoundError",
        ),
    ],
)
def test_a_broken_command_says_whose_it_is(
    tmp_path: Path, run: Callable[..., object], body: str, message: str, request: pytest.FixtureRequest
) -> None:
    """One line with the distribution and the fault, not a traceback, whether it fails on import or at work."""
    module = f"broken_app_{abs(hash(request.node.name))}"
    install(tmp_path, "clumsy", ADDS.format(command="greet", target=f"{module}:app"))
    greeter(tmp_path, module, body)
    done = run("greet")
    assert done.exit_code == 1
    assert message in done.output
    assert "rerank_clumsy" in done.output


@pytest.mark.parametrize("command", ["Greet", "two words", ""])
def test_a_plugin_with_a_bad_command_is_invalid(tmp_path: Path, discover: Discover, command: str) -> None:
    """What nobody could type is refused when the plugin is read, and breaks only that plugin."""
    install(tmp_path, "odd", ADDS.format(command=command, target="any:app"))
    (record,) = (plugin for plugin in discover().plugins if plugin.name == "odd")
    assert record.status == "invalid"


def test_ranking_reads_no_plugin_for_its_own_name() -> None:
    """`rerank rank --help` imports neither torch nor the trainers."""
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rerank_core.cli import app\n"
        "CliRunner().invoke(app, ['rank', '--help'])\n"
        "print(sorted({'torch', 'transformers', 'rerank_trainers.cli'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_trainers_bring_train() -> None:
    """The shipped plugin behind the hook is found, and asking for its help imports no torch."""
    pytest.importorskip("rerank_trainers")
    assert "train" in registry.default().commands()
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom rerank_core.cli import app\n"
        "done = CliRunner().invoke(app, ['train', '--help'])\n"
        "print(done.exit_code, sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 []"


def test_a_commands_traceback_is_there_for_its_author(
    tmp_path: Path, run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the one line advises works: with the variable set, the error itself is raised."""
    install(tmp_path, "clumsy", ADDS.format(command="greet", target="dividing_app:app"))
    greeter(tmp_path, "dividing_app", "import typer\napp = typer.Typer()\n@app.command()\ndef greet() -> None: 1 / 0")
    assert "RERANK_TRACEBACK=1" in run("greet").output
    monkeypatch.setenv("RERANK_TRACEBACK", "1")

    assert isinstance(run("greet").exception, ZeroDivisionError)


def test_a_command_that_is_not_there_says_how_to_get_it(
    tmp_path: Path, run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rerank train` without the trainers gets the install line; a misspelling, near names; exit code 2."""
    install(tmp_path, "polite", ADDS.format(command="greet", target="any:app"))
    done = run("gret")
    assert (done.exit_code, "Did you mean greet?" in done.output) == (2, True)
    assert "Did you mean train" in run("trian").output
    assert "Did you mean" not in run("xyzzy").output
    found = Registry([plugin for plugin in Registry.discover().plugins if plugin.name != "trainers"])
    monkeypatch.setattr("rerank_core.cli.plugin_commands.default", lambda: found)
    done = CliRunner().invoke(app, ["train", "reranker"])
    assert (done.exit_code, "pip install rerank-trainers" in done.output) == (2, True)


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "raise KeyboardInterrupt"])
def test_a_model_that_exits_while_it_scores_is_an_error(body: str, tmp_path: Path, run: Callable[..., object]) -> None:
    """A ranking that was never made does not look like one that went well."""
    code = (
        "from rerank_core import ModelSpec, hookimpl\nfrom rerank_core.testing import FakeTextScorer\n\n@hookimpl\n"
        "def rerank_register_models(register):\n    register(ModelSpec(name='quits', scorer='rerank_quits:make'))\n\n"
        f"class Quits(FakeTextScorer):\n    def score(self, query, docs):\n        {body}\n\n"
        "def make(spec, options):\n    return Quits()\n"
    )
    install(tmp_path, "quits", code)
    (tmp_path / "docs.txt").write_text("tea", encoding="utf-8")
    result = run("rank", "q", str(tmp_path / "docs.txt"), "-m", "quits")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "the code of 'quits' tried to end the process" in result.stderr
