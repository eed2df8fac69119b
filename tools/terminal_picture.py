"""Draws the picture of a terminal in the READMEs: the output of one run of `rerank rank`, as SVG.

    python tools/terminal_picture.py       # writes docs/images/rank.svg

`make pictures` runs it. tests/test_docs.py runs the command again and compares its output with the picture.
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
    """The output of `rerank rank` in a terminal, with its colours and without the progress bar, which erases itself.

    Raises:
        RuntimeError: the command failed.
    """
    reading_end, terminal_end = pty.openpty()
    fcntl.ioctl(terminal_end, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    command = [sys.executable, "-m", "rerank_core", "rank", QUERY, FILE, "--top-k", "3"]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment["TERM"] = "xterm-256color"
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=terminal_end, stderr=terminal_end
    ) as run:
        os.close(terminal_end)
        pieces = []
        try:
            while piece := os.read(reading_end, 65536):
                pieces.append(piece)
        except OSError:  # Linux raises this when the other end of the terminal is closed
            pass
        os.close(reading_end)
    text = b"".join(pieces).decode("utf-8")
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}:\n{text}")
    return text.rpartition(_ERASED)[2].replace("\r\n", "\n")


def draw(text: str, path: Path = PICTURE) -> None:
    """Write the SVG: the command line and the output."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bold green"), f'rerank rank "{QUERY}" \\'))
    console.print(Text(f"      {FILE} --top-k 3"))
    console.print(Text.from_ansi(text.rstrip("\n")))
    svg = console.export_svg(title="rerank-core", unique_id="rank")
    # Use a font of the reader's machine instead of fetching one from the network.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    draw(capture())
