"""Engines as processes: each holds one model, in the environment of its library, and answers requests in turn."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from parts.run import ROOT, python_of

__all__ = ["LATE", "PEERS", "REQUIREMENTS", "Engine"]

BENCHMARKS = ROOT / "benchmarks"
PEERS = BENCHMARKS / "peers.txt"
LATE = ROOT / "tests" / "parity" / "late.txt"
_ORIGINALS = ROOT / "tests" / "parity" / "originals.txt"
REQUIREMENTS: dict[str, Path | None] = {
    "ours": None, "ours-int8": None, "sentence-transformers": PEERS, "flagembedding": PEERS,
    "rag-retrieval": _ORIGINALS, "bcembedding": _ORIGINALS, "rerankers": PEERS, "onnx-runtime": PEERS,
    "onnx-runtime-int8": PEERS, "openvino": PEERS,
}  # fmt: skip
"""The requirements file of each engine's environment; None for this interpreter's."""


class Engine:
    """A process that holds one model and answers requests.

    Args:
        name: the engine, of those that ``script`` has.
        directory: the checkpoint.
        script: path of the engine's script, relative to benchmarks/.
        requirements: file of the environment; None for this interpreter's.
    """

    def __init__(self, name: str, directory: Path, script: str, requirements: Path | None = None) -> None:
        python = sys.executable if requirements is None else str(python_of(requirements))
        environment = dict(os.environ)
        if requirements:  # PYTHONPATH and similar variables are set for this interpreter
            environment = {key: value for key, value in environment.items() if not key.startswith("PYTHON")}
        paths = [str(BENCHMARKS), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        self.name = name
        self.process = subprocess.Popen(
            [python, str(BENCHMARKS / script), name, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def ask(self, file: Path, *, warm_up: bool = False) -> dict[str, Any]:
        """Measure the work in a file, or a small part of it as a warm-up.

        Raises:
            RuntimeError: the engine's process has ended.
        """
        return self.send({"file": str(file), "warm_up": warm_up})

    def send(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write one request as a JSON line and return the answer.

        Raises:
            RuntimeError: the engine's process has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended already
            self.process.stdin.close()
        self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
