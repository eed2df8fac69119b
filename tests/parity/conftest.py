"""The originals, live in their own environment, and tiny checkpoints that both sides load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rerank_core.testing.checkpoints import Family, tiny_cross_encoder

WORKER = Path(__file__).with_name("worker.py")
LATE_WORKER = Path(__file__).with_name("late_worker.py")
MTEB_WORKER = Path(__file__).with_name("mteb_worker.py")
MTEB_MODELS_WORKER = Path(__file__).with_name("mteb_models_worker.py")

# Of the slow tokenizer that a published checkpoint names; FlagEmbedding takes its special tokens from the class.
CLASSES: dict[Family, str] = {"xlm-roberta": "XLMRobertaTokenizerFast", "bert": "BertTokenizerFast"}
CHECKPOINTS = [
    pytest.param(("xlm-roberta", None), id="xlm-roberta"),
    pytest.param(("bert", None), id="bert"),
    pytest.param(("xlm-roberta", "xlm-roberta"), id="real-xlm-roberta", marks=pytest.mark.data),
    pytest.param(("bert", "bert-base-uncased"), id="real-bert-uncased", marks=pytest.mark.data),
    pytest.param(("bert", "bert-base-chinese"), id="real-bert-chinese", marks=pytest.mark.data),
]


@dataclass
class Originals:
    """The worker's two pipes."""

    process: subprocess.Popen[str]

    def send(self, **request: Any) -> Any:
        """One request, one answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the worker of the originals ended; its words are on stderr"
        return json.loads(line)

    def ask(self, framework: str, entry: str, directory: Path, query: str, docs: list[str], length: int) -> Any:
        """What the framework answers: ``scores``, the ``order`` of a list, or its ``error``."""
        return self.send(
            framework=framework, entry=entry, directory=str(directory), query=query, docs=docs, max_length=length
        )


@pytest.fixture(scope="session")
def originals() -> Iterator[Originals]:
    """The three frameworks, or a skip that says how to run them."""
    yield from _running(os.environ.get("RERANK_ORIGINALS"), WORKER)


@pytest.fixture(scope="session")
def pylate() -> Iterator[Originals]:
    """PyLate, in its own environment."""
    yield from _running(os.environ.get("RERANK_LATE"), LATE_WORKER)


@pytest.fixture(scope="session")
def multi_vector() -> Iterator[Originals]:
    """sentence-transformers, whose current version runs in this environment, in a process of its own."""
    pytest.importorskip("sentence_transformers")
    yield from _running(sys.executable, LATE_WORKER)


@pytest.fixture(scope="session")
def bge_m3() -> Iterator[Originals]:
    """FlagEmbedding's BGE-M3."""
    yield from _running(os.environ.get("RERANK_LATE"), LATE_WORKER)


@pytest.fixture(scope="session")
def mteb_1() -> Iterator[Originals]:
    """The evaluator of C-MTEB's published tables."""
    yield from _running(os.environ.get("RERANK_MTEB1"), MTEB_WORKER, "make parity-metrics")


@pytest.fixture(scope="session")
def mteb_2() -> Iterator[Originals]:
    """The evaluator of the current leaderboard."""
    yield from _running(os.environ.get("RERANK_MTEB2"), MTEB_WORKER, "make parity-metrics")


@pytest.fixture(scope="session")
def mteb_models() -> Iterator[Originals]:
    """mteb 2 with the models of this repository."""
    yield from _running(os.environ.get("RERANK_MTEB2"), MTEB_MODELS_WORKER, "make parity-metrics", json.dumps(sys.path))


def _running(python: str | None, worker: Path, command: str = "make parity", *arguments: str) -> Iterator[Originals]:
    if not python:
        pytest.skip(f"`{command}` builds the environments of the originals, and sets what names them")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.Popen(
        [python, str(worker), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.__stderr__,
        text=True, encoding="utf-8", env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    yield Originals(process)
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@dataclass(frozen=True)
class Checkpoint:
    directory: Path
    family: Family


@pytest.fixture(scope="session", params=CHECKPOINTS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A tiny cross-encoder that names its tokenizer's class, as published ones do."""
    family, real = request.param
    tokenizer = request.getfixturevalue("data") / "tokenizers" / real if real else None
    folder = tmp_path_factory.mktemp("parity") / (real or family)
    directory = tiny_cross_encoder(folder, family, tokenizer=tokenizer, std=0.25)
    file = directory / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**config, "tokenizer_class": CLASSES[family]}), encoding="utf-8")
    return Checkpoint(directory, family)
