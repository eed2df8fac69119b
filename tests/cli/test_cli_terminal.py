"""The `rerank` command in a process of its own: exit codes, terminals, encodings, closed pipes, Ctrl-C."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.plugin_factory import install

COMMAND = [sys.executable, "-m", "rerank_core"]
RANK = [*COMMAND, "rank", "panda", "-m", "acme-small"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX pipes, terminals and signals")


@pytest.fixture(autouse=True)
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model without weights that child processes find."""
    install(tmp_path / "site", "acme")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))


def run(command: list[str], stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """What a command wrote, and how it ended."""
    env = {**os.environ, **environment}
    return subprocess.run(command, input=stdin, env=env, capture_output=True, timeout=120, check=False)


def on_terminal(command: list[str], columns: int) -> list[str]:
    """The lines that a command shows on a terminal this wide, without their colours."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    shown = b""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, env=env):
        os.close(theirs)
        try:
            while block := os.read(ours, 4096):
                shown += block
        except OSError:  # Linux says so when the other side of a terminal is closed
            pass
    os.close(ours)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).splitlines()


def test_exit_codes_reach_the_shell() -> None:
    """0, 1 and 2 are the exit codes of the process, and an error leaves no traceback."""
    assert run([*COMMAND, "models"]).returncode == 0
    failed = run([*COMMAND, "rank", "panda", "-m", "nope"], b"tea")
    assert (failed.returncode, failed.stdout) == (1, b"")
    assert failed.stderr.startswith(b"error: ")
    assert run([*COMMAND, "rank"]).returncode == 2


def test_json_is_utf8_whatever_the_locale() -> None:
    """JSON is UTF-8 under any encoding of stdout, and a table replaces characters that stdout cannot show."""
    text = "panda 熊猫 \ud800"
    stdin = json.dumps({"text": text}).encode()
    data = json.loads(run([*RANK, "--json"], stdin, PYTHONIOENCODING="latin-1").stdout)
    table = run(RANK, stdin, PYTHONIOENCODING="latin-1")

    assert data["hits"][0]["text"] == text
    assert table.returncode == 0
    assert table.stdout.splitlines()[1].endswith(b"  #0  panda ?? ?")


@posix
@pytest.mark.parametrize("columns", [50, 90])
def test_table_fits_the_terminal(columns: int, tmp_path: Path) -> None:
    """On a terminal no line is too long, a text takes one line, and ids are whole even if they take several."""
    documents = [{"id": f"id-{number}-" + "x" * 40, "text": "panda 熊猫 " * 30} for number in range(2)]
    file = tmp_path / "docs.jsonl"
    file.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")
    lines = on_terminal([*RANK, str(file)], columns)

    assert max(map(len, lines)) <= columns
    assert sum("panda" in line for line in lines) == 2
    for document in documents:
        shown = "".join(word for line in lines for word in line.split() if word.startswith("id-") or set(word) == {"x"})
        assert str(document["id"]) in shown


@posix
def test_models_fit_the_terminal() -> None:
    """A narrow terminal gets the list without descriptions, never with names cut."""
    names = [line.split()[0] for line in run([*COMMAND, "models"]).stdout.decode().splitlines()]

    for columns in (80, 140):
        lines = on_terminal([*COMMAND, "models"], columns)
        assert max(map(len, lines)) <= columns
        assert [line.split()[0] for line in lines if not line.startswith(" ")] == names


@posix
@pytest.mark.parametrize("arguments", [["models"], ["models", "--json"], ["--help"]])
def test_closed_pipe_leaves_no_traceback(arguments: list[str]) -> None:
    """A reader that has gone ends the command quietly."""
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as piped:
        assert piped.stdout is not None
        assert piped.stderr is not None
        piped.stdout.close()
        assert piped.stderr.read() == b""


def ended(arguments: str) -> tuple[int, list[str]]:
    """How a command of the shell ended: its exit code, and the lines that it wrote to stderr."""
    shell = arguments.replace("rerank ", f"{shlex.join(COMMAND)} ", 1)
    done = run(["sh", "-c", shell])
    return done.returncode, done.stderr.decode().splitlines()


@posix
@pytest.mark.parametrize("arguments", ["models", "--help", "rank panda -m acme-small --json </dev/null"])
def test_a_result_that_cannot_be_written_is_said_in_one_line(arguments: str) -> None:
    """With stdout closed or on a full disk, the exit code is 1 and stderr has one line."""
    for stdout, said in ((">&-", "stdout is closed"), (">/dev/full", "No space left")):
        code, lines = ended(f"rerank {arguments} {stdout}")
        assert (code, [said in line for line in lines if line.startswith("error: ")]) == (1, [True])
        assert not any("Traceback" in line or "Exception ignored" in line for line in lines)


@posix
def test_a_message_that_cannot_be_written_changes_nothing() -> None:
    """With stderr closed or on a full disk, the exit code is still that of the result."""
    assert ended("rerank models >&- 2>&-")[0] == 1
    for arguments in ("models", "rank panda -m acme-small --json </dev/null"):
        assert ended(f"rerank {arguments} >/dev/null 2>&-") == (0, [])
    assert ended("rerank --help >/dev/null 2>/dev/full") == (0, [])


@posix
def test_wrong_usage_keeps_its_exit_code() -> None:
    """Where stderr is on a full disk, the exit code is all that is left of a usage error."""
    assert ended("rerank nothing 2>/dev/full") == (2, [])


@posix
def test_closed_stdin_is_said() -> None:
    """Where documents would come from a stdin that is closed, that is the error."""
    code, lines = ended("rerank rank panda -m acme-small <&-")
    assert (code, len(lines), "stdin is closed" in lines[0]) == (1, 1, True)


def test_without_torch_a_model_with_weights_says_what_to_install(tmp_path: Path) -> None:
    """Without the packages that run weights, a hub id and a name get the install line, not a ModuleNotFoundError."""
    missing = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "huggingface_hub")
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n\nclass Missing:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {missing!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n\n"
        "sys.meta_path.insert(0, Missing())\n",
        encoding="utf-8",
    )
    for model in ("owner/name", "bge-reranker-base"):
        done = run([*COMMAND, "rank", "panda", "-m", model], b"tea")
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
        assert b"pip install 'rerank-core[torch]'" in done.stderr


@posix
def test_ctrl_c_while_a_model_loads_ends_in_one_line(tmp_path: Path) -> None:
    """Ctrl-C exits with 130 and one line also where a plugin's code runs, which does not get the blame."""
    code = (
        "import sys, time\nfrom rerank_core import ModelSpec, hookimpl\n\n@hookimpl\n"
        "def rerank_register_models(register):\n    register(ModelSpec(name='slow', scorer='rerank_slow:make'))\n\n"
        "def make(spec, options):\n    print('loading', flush=True)\n    time.sleep(60)\n"
    )
    install(tmp_path / "site", "slow", code)
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen([*COMMAND, "rank", "q", "-m", "slow"], preexec_fn=heed, **pipes) as loading:
        try:
            assert loading.stderr.readline() == b"loading\n"
            loading.send_signal(signal.SIGINT)
            assert loading.communicate(timeout=60) == (b"", b"interrupted\n")
        finally:
            loading.kill()
    assert loading.returncode == 130


@posix
def test_interrupt_exits_with_130() -> None:
    """Where documents come from a terminal that is said, and Ctrl-C ends the wait with 130 and one line."""
    ours, theirs = os.openpty()
    pipes = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    # A job in the background of a shell inherits SIGINT ignored, and Python then leaves it so.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(RANK, preexec_fn=heed, **pipes) as waiting:
        try:
            assert b"reading documents from the terminal" in waiting.stderr.readline()
            waiting.send_signal(signal.SIGINT)
            assert waiting.communicate(timeout=60) == (b"", b"interrupted\n")
        finally:
            waiting.kill()
    os.close(ours)
    os.close(theirs)
    assert waiting.returncode == 130
