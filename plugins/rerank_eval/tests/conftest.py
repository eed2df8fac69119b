"""Models for tests: a plugin on disk, whose models need no torch, so that their processes start in half a second."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.plugin_factory import install
from rerank_core.plugins import registry
from rerank_eval.sets.judged_set import Candidate, JudgedQuery, JudgedSet

TOY = '''
"""Models that count shared words; their options make them slow, let them fail, or end their process."""

import logging
import os
import signal
import time

from rerank_core import ModelOption, ModelSpec, Permutation, hookimpl


class Words:
    def __init__(self, spec, options):
        self.options = options.model
        if self.options["refuses"]:
            raise ValueError("no room")
        print("toy: a print of a model")

    def score(self, query, docs):
        return scores(self.options, query, docs)


class Lists:
    def __init__(self, spec, options):
        self.options = options.model

    def rank(self, query, docs):
        found = scores(self.options, query, docs)
        order = sorted(range(len(docs)), key=lambda at: -found[at])
        return Permutation(order, {"windows": 3, "well_formed": 1 if self.options["malformed"] else 3})


def scores(options, query, docs):
    if options["log"]:
        with open(options["log"], "a") as log:
            log.write(query + chr(10))
    time.sleep(options["delay"])
    if options["warns"]:
        logging.getLogger("rerank_core").warning("toy: about %s", query)
    if options["fails"] and options["fails"] in query:
        raise RuntimeError("no answer to " + query)
    if options["dies"] and options["dies"] in query:
        os.kill(os.getpid(), signal.SIGKILL)
    words = set(query.split())
    return [sum(word in words for word in doc.split()) / (1 + len(doc)) for doc in docs]


OPTIONS = (
    ModelOption("log", "str", "file for queries"),
    ModelOption("delay", "float", "seconds a call", default=0.0),
    ModelOption("fails", "str", "queries with this text fail"),
    ModelOption("dies", "str", "queries with this text end the process"),
    ModelOption("refuses", "bool", "cannot be loaded", default=False),
    ModelOption("warns", "bool", "logs a warning", default=False),
    ModelOption("malformed", "bool", "two of three answers are repaired", default=False),
    ModelOption("api_key", "str", "a secret", secret=True),
)


@hookimpl
def rerank_register_models(register):
    register(ModelSpec(name="toy-words", scorer="rerank_toy:Words", options=OPTIONS))
    register(ModelSpec(name="toy-lists", scorer="rerank_toy:Lists", options=OPTIONS, score_space="rank"))
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the plugin, which the processes of this one import too."""
    folder = tmp_path / "toys"
    install(folder, "toy", TOY)
    monkeypatch.syspath_prepend(str(folder))
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", str(folder) + (os.pathsep + before if before else ""))
    registry.default.cache_clear()
    yield folder
    registry.default.cache_clear()
    sys.modules.pop("rerank_toy", None)


@pytest.fixture
def make_set() -> Callable[..., JudgedSet]:
    """Make a set whose query N asks for word N, which the first of its four candidates has."""

    def make(queries: int = 6, *, name: str = "small", first_stage: bool = False) -> JudgedSet:
        made = tuple(
            JudgedQuery(
                f"q{number}",
                f"what is word{number}",
                tuple(
                    Candidate(f"d{at}", f"word{at} has {at} letters", float(at == number), float(-at))
                    for at in range(number, number + 4)
                ),
            )
            for number in range(1, queries + 1)
        )
        if first_stage:
            return JudgedSet(name, made, order="first-stage", first_stage="toy search")
        return JudgedSet(name, made)

    return make
