"""A configuration is checked to the last key, whoever wrote it, and is written as it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rerank_core import InputError
from rerank_trainers.config.parse import parse_config, read_config, set_values, write_config
from rerank_trainers.config.schema import Config, LoraOptions, ObjectiveConfig

YAML = """
data: {train: train.jsonl, eval: [dev.jsonl], label_map: {3: 1, 0: 0.25}}
model: {checkpoint: some/model, lora: {r: 8}}
objective:
  - softmax_ce
  - {name: bce, weight: 0.1, options: {pos_weight: 2}}
train: {learning_rate: 2e-5, epochs: 3, arguments: {optim: sgd}}
"""


def test_yaml_becomes_a_configuration(tmp_path: Path) -> None:
    """One file or several, an objective by its name, 2e-5 that YAML reads as text, numbers as label names."""
    (tmp_path / "run.yaml").write_text(YAML)
    config = parse_config(read_config(tmp_path / "run.yaml"))
    assert (config.data.train, config.data.eval) == (("train.jsonl",), ("dev.jsonl",))
    assert config.data.label_map == {"3": 1, "0": 0.25}
    assert config.objective == (ObjectiveConfig("softmax_ce"), ObjectiveConfig("bce", 0.1, {"pos_weight": 2}))
    assert config.model.lora == LoraOptions(r=8)
    assert (config.train.learning_rate, config.train.epochs) == (2e-5, 3.0)
    assert config.train.arguments == {"optim": "sgd"}


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """The resolved configuration beside the weights gives the same run again."""
    (tmp_path / "run.yaml").write_text(YAML)
    config = parse_config(read_config(tmp_path / "run.yaml"))
    write_config(config, tmp_path / "config.json")
    assert parse_config(read_config(tmp_path / "config.json")) == config
    write_config(Config(), tmp_path / "config.json")
    assert parse_config(read_config(tmp_path / "config.json")) == Config()


def test_set_wins_over_the_file_and_leaves_it_alone() -> None:
    """RAG-Retrieval writes the file over the command line; here what is set last holds."""
    data: dict[str, Any] = {"train": {"epochs": 2, "seed": 1}, "model": {"lora": None}}
    told = set_values(
        data, ["train.epochs=5", "train.epochs=4", "model.lora.r=16", "objective=[kl, bce]", "train.eval_steps=null"]
    )
    config = parse_config(told)
    assert (config.train.epochs, config.train.seed, config.train.eval_steps) == (4.0, 1, None)
    assert config.model.lora == LoraOptions(r=16)
    assert [part.name for part in config.objective] == ["kl", "bce"]
    assert data == {"train": {"epochs": 2, "seed": 1}, "model": {"lora": None}}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"trian": {}}, r"'trian' is not a setting\. Did you mean 'train'\? Valid here: data, model, objective"),
        ({"train": {"learning_rat": 1}}, r"'train\.learning_rat' is not a setting\. Did you mean 'learning_rate'\?"),
        ({"model": {"lora": {"rank": 8}}}, r"'model\.lora\.rank' is not a setting\. Valid here: r, alpha"),
        ({"objective": [{"name": "bce", "wieght": 1}]}, r"'objective\[0\]\.wieght'.*Did you mean 'weight'"),
        ({"train": {"epochs": "many"}}, r"train\.epochs is 'many'; it must be a finite number"),
        ({"train": {"epochs": float("nan")}}, r"train\.epochs is nan; it must be a finite number"),
        ({"train": {"learning_rate": "inf"}}, r"train\.learning_rate is 'inf'; it must be a finite number"),
        ({"train": {"epochs": True}}, r"train\.epochs is True"),
        ({"train": {"batch_size": 2.5}}, r"train\.batch_size is 2\.5; it must be an integer"),
        ({"train": {"batch_size": True}}, r"train\.batch_size is True"),
        ({"train": {"precision": "half"}}, r"train\.precision is 'half'; it must be one of 'float32', 'bf16', 'fp16'"),
        (
            {"model": {"gradient_checkpointing": "yes"}},
            r"model\.gradient_checkpointing is 'yes'; it must be true or false",
        ),
        ({"model": {"answers": [True, "no"]}}, r"model\.answers\[0\] is True; it must be a string; put it in quotes"),
        ({"data": {"label_range": [0, 1, 2]}}, r"data\.label_range is \[0, 1, 2\]; it must be a list of two"),
        ({"data": {"train": 3}}, r"data\.train is 3; it must be a list"),
        ({"train": {"arguments": ["sgd"]}}, r"train\.arguments is \['sgd'\]; it must be a mapping"),
        ({"train": 3}, r"train is 3; it must be a mapping"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], said: str) -> None:
    """The key with its whole path, the value, and what it must be."""
    with pytest.raises(InputError, match=said):
        parse_config(data)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("train.epochs", r"--set takes KEY=VALUE, like train\.epochs=3, and got 'train\.epochs'"),
        ("=3", r"--set takes KEY=VALUE"),
        ("train.epochs.more=1", r"'epochs' is 2, which has no keys"),
        ("train.arguments=[1", r"--set 'train\.arguments=\[1': the value is not YAML"),
        ("train.arguments=2020-13-45", "the value is not YAML: month must be in 1..12"),
        ("train.arguments=" + "[" * 1000, "the value is nested too deeply"),
    ],
)
def test_assignments_that_are_none(told: str, said: str) -> None:
    """What cannot be set says how it is written."""
    with pytest.raises(InputError, match=said):
        set_values({"train": {"epochs": 2}}, [told])


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    """Missing, not YAML, or a list."""
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "missing.yaml")
    for text, said in (("a: [1", "is not YAML"), ("- a", r"is \['a'\]; it must be a mapping")):
        (tmp_path / "run.yaml").write_text(text)
        with pytest.raises(InputError, match=said):
            read_config(tmp_path / "run.yaml")
    (tmp_path / "run.yaml").write_bytes(b"a: \xff")
    with pytest.raises(InputError, match="cannot be read"):
        read_config(tmp_path / "run.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_config("x" * 5000)
    with pytest.raises(
        InputError, match=r"is a data file, and a configuration file is expected here; name it as data.train"
    ):
        read_config(tmp_path / "rows.jsonl.gz")
