"""Fixtures of the trainers' tests: invented rows in two languages, tiny checkpoints, and runs of them.

torch and transformers are imported inside the fixtures: every pytest process reads this file, also one that runs no
test, as pytest-xdist's controller.
"""

from __future__ import annotations

import copy
import functools
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from helpers.forked import forked
from rerank_core.records.training_row import TrainingRow
from rerank_core.testing import tiny_causal_lm, tiny_cross_encoder
from rerank_trainers.config.parse import parse_config, set_values
from rerank_trainers.config.schema import Config

if TYPE_CHECKING:
    from helpers.runs import Gradient

    from rerank_trainers.loop.prepare import Run

# The settings of every run of the tests. Only tests of dropout or of Adam set them: dropout draws other numbers for
# each layout, and Adam turns a gradient of rounding errors into a step of full length.
PLAIN = {
    "data": {"group_size": 3},
    "model": {"dropout": 0.0, "max_length": 96},
    "objective": "softmax_ce",
    "train": {
        "device": "cpu", "batch_size": 4, "epochs": 1, "learning_rate": 0.05, "warmup": 0.0, "schedule": "constant",
        "weight_decay": 0.0, "log_steps": 1, "arguments": {"optim": "sgd", "disable_tqdm": True},
    },
}  # fmt: skip

TOPICS = [
    ("what is a panda?", ("a bear of the mountains of China", "the capital of France", "a reranker gives scores")),
    ("what do pandas eat?", ("bamboo makes up most of it, fish and eggs too", "the final of the world cup", "Paris")),
    ("大熊猫是什么动物？", ("中国特有的熊科动物", "法国的首都是巴黎", "长文档会被切成段落")),
    ("熊猫吃什么？", ("每天吃很多竹子", "重排模型给每个文档打分", "分数最高的排在最前面", "也吃鱼、鸟和蛋")),
    ("capital of France", ("The capital of France is Paris.", "the giant panda", "bamboo", "巴黎")),
    ("how is a long document scored?", ("by its best passage", "eggs", "熊猫", "1998", "a bear")),
    ("重排模型做什么？", ("给每个文档打分", "吃竹子", "生活在山区的竹林里", "world cup", "birds")),
    ("which year was the final?", ("In 1998 France hosted the final of the world cup", "bear", "文档", "fish", "a")),
    ("what does a reranker read?", ("a query and a document together", "bamboo " * 12, "熊猫", "the", "山")),
]


def rows_of(count: int = 18, *, scores: bool = False) -> list[TrainingRow]:
    """Rows with one or two relevant documents among two to seven."""
    rows = []
    for number in range(count):
        query, docs = TOPICS[number % len(TOPICS)]
        more = (f"passage {number} of the mountains", f"文档{number}") if number >= len(TOPICS) else ()
        docs = (*docs, *more)
        labels = tuple(float(place == 0 or text in ("也吃鱼、鸟和蛋", "巴黎")) for place, text in enumerate(docs))
        teacher = tuple(2.0 * label - 0.3 * place for place, label in enumerate(labels)) if scores else None
        rows.append(TrainingRow(query, docs, labels, teacher, id=f"row-{number}"))
    return rows


@pytest.fixture(scope="session")
def rows() -> Callable[..., list[TrainingRow]]:
    """`rows_of`, for tests, which cannot import a conftest."""
    return rows_of


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with one label."""
    return tiny_cross_encoder(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="session")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen2 with its output layer."""
    return tiny_causal_lm(tmp_path_factory.mktemp("qwen2"))


def configuring(folder: Path, encoder: Path) -> Callable[..., Config]:
    """Makes configurations whose output folders are in a folder."""
    number = itertools.count()

    def make(*assignments: str) -> Config:
        base = copy.deepcopy(PLAIN)
        told: dict[str, Any] = base
        told["model"]["checkpoint"] = str(encoder)
        told["train"]["out"] = str(folder / f"run-{next(number)}")
        return parse_config(set_values(told, assignments))

    return make


def preparing(configured: Callable[..., Config]) -> Callable[..., Run]:
    """Makes runs of such configurations."""

    def make(
        *assignments: str, rows: Sequence[TrainingRow] | None = None, dev: Sequence[TrainingRow] | None = None
    ) -> Run:
        import transformers

        from rerank_trainers.kinds import kind_of
        from rerank_trainers.loop.prepare import prepare

        config = configured(*assignments)
        run = prepare(config, kind_of(config.model), rows_of() if rows is None else rows, dev)
        # Its tables go to stdout.
        run.trainer.remove_callback(transformers.PrinterCallback)
        return run

    return make


@pytest.fixture
def configured(tmp_path: Path, encoder: Path) -> Callable[..., Config]:
    """A configuration from assignments as `--set` takes them; each call gives another output folder."""
    return configuring(tmp_path, encoder)


@pytest.fixture
def prepared(configured: Callable[..., Config]) -> Callable[..., Run]:
    """A run that is ready to start, from assignments, rows and dev rows."""
    return preparing(configured)


@pytest.fixture(scope="module")
def prepared_once(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """The same for runs that several tests of a module read."""
    return preparing(configuring(tmp_path_factory.mktemp("runs"), encoder))


@pytest.fixture(scope="session")
def uninterrupted(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """A whole run of `helpers.runs.EVERYTHING` with further assignments, on rows and with `dev` dev rows. It is
    trained once in a process, and not to be changed."""
    from helpers.runs import EVERYTHING

    prepared = preparing(configuring(tmp_path_factory.mktemp("whole"), encoder))

    @functools.cache
    def make(*assignments: str, dev: int = 0) -> Run:
        run = prepared(*EVERYTHING, *assignments, dev=rows_of(dev) if dev else None)
        run.train()
        return run

    return make


@pytest.fixture(scope="session")
def gradients() -> Callable[[Run], list[Gradient]]:
    """`gradients_of`, for tests."""
    from helpers.runs import gradients_of

    return gradients_of


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of judged data, or a skip that says what to set."""
    folder = os.environ.get("RERANK_DATA")
    if not folder:
        pytest.skip("RERANK_DATA is not set: it names the folder with the judged data")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def forked_proofs() -> Iterator[None]:
    """Publishing proves a folder in a process that is forked from one with the libraries imported and nothing loaded;
    `helpers.forked.interpreted` gives a test the new interpreter that users get."""
    from rerank_trainers.publish import publish as publishing

    with forked(publishing):
        yield


@pytest.fixture(scope="session", autouse=True)
def commands() -> Iterator[None]:
    """The command line is built once."""
    from helpers.commands import built_once

    with built_once():
        yield


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Restore torch's random state and number of threads, which training sets."""
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    yield
    torch.set_rng_state(state)
    torch.set_num_threads(threads)
