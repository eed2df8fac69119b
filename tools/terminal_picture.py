"""The picture of a terminal in the READMEs: one run of `rerank rank`, in a terminal, as SVG.

    python tools/terminal_picture.py       # writes docs/images/rank.svg

`make pictures` runs it. tests/test_docs.py runs the command again and compares what it prints with the picture.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

__all__ = ["PICTURE", "QUERY", "capture", "draw"]

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "rank.svg"
QUERY = "How do I keep a sourdough starter alive while I am on holiday?"
FILE = "examples/sourdough.jsonl"
WIDTH, HEIGHT = 96, 30
_ERASED = "\x1b[2K"


def capture() -> str:
    """The output of `rerank rank` in a terminal, without the progress bar, which erases itself; with its colours.

    Raises:
        RuntimeError: the command failed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    command = [sys.executable, "-m", "rerank_core", "rank", QUERY, FILE, "--top-k", "3"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment["TERM"] = "xterm-256color"
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as run:
        os.close(theirs)
        pieces = []
        try:
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        except OSError:  # Linux says so when the other side has closed
            pass
        os.close(ours)
    text = b"".join(pieces).decode("utf-8")
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}:\n{text}")
    return text.rpartition(_ERASED)[2].replace("\r\n", "\n")


def draw(text: str, path: Path = PICTURE) -> None:
    """Write the SVG: the command as one would type it, and its output."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), f'rerank rank "{QUERY}" \\'))
    console.print(Text(f"      {FILE} --top-k 3"))
    console.print(Text.from_ansi(text.rstrip("\n")))
    svg = console.export_svg(title="rerank-core", unique_id="rank")
    # The reader's own font: nothing is fetched from elsewhere to show a picture.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    draw(capture())
