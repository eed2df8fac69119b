"""The model card: it says what is known, in a form that the hub reads, and nothing that nobody told it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rerank_core import Head, ModelSpec, Template
from rerank_core.measures import CalibrationMap, interval, paired
from rerank_trainers.config.parse import parse_config
from rerank_trainers.config.schema import Config
from rerank_trainers.evaluation.result import Result
from rerank_trainers.kinds import KINDS
from rerank_trainers.publish.card import CardFacts, card, public_name

CROSS = KINDS["cross-encoder"]
SPEC = ModelSpec(
    "tiny-panda", head=Head.classifier(), max_length=256, license="apache-2.0", languages=("zh", "en"),
    description="Ranks pandas.",
)  # fmt: skip
BEFORE = {"nDCG@10": [0.0, 0.5, 0.5, 1.0], "AP": [0.1, 0.2, 0.3, 0.4]}
AFTER = {"nDCG@10": [0.5, 0.5, 1.0, 1.0], "AP": [0.2, 0.3, 0.4, 0.5]}
SCORED = [(3.0, 1), (2.5, 2), (0.1, 1), (0.4, 0), (-1.0, 0), (-2.0, 0), (-2.2, 0), (-3.0, 0)]


def result(queries: dict[str, list[float]]) -> Result:
    return Result({name: sum(values) / len(values) for name, values in queries.items()}, queries, SCORED)


@pytest.fixture
def config() -> Config:
    return parse_config(
        {
            "data": {"train": ["/home/alice/secret/train.jsonl"], "eval": ["/home/alice/dev.jsonl"]},
            "model": {"checkpoint": "/home/alice/models/base-zh", "lora": {"r": 8}},
            "objective": ["softmax_ce", {"name": "bce", "weight": 0.1, "options": {"pos_weight": 2.0}}],
            "train": {"out": "/home/alice/run", "learning_rate": 3e-5, "epochs": 3},
        }
    )


@pytest.fixture
def facts(config: Config) -> CardFacts:
    return CardFacts(
        origin="/home/alice/models/base-zh", config=config, sources={"train.jsonl": 12_345, "a|b": 2},
        dev_sources={"dev.jsonl": 4}, fingerprint="ab" * 32, before=result(BEFORE), after=result(AFTER), steps=77,
        epochs=3.0, date="2026-11-25", versions={"rerank-core": "0.1.0", "torch": "2.13.0"},
    )  # fmt: skip


def test_a_card_without_facts_has_no_numbers() -> None:
    """What nobody told is left out: no results, data, settings or calibration, and nothing says None."""
    text = card(
        ModelSpec("plain", head=Head.classifier()),
        CROSS,
        CardFacts(date="2026-11-25", versions={}),
        dtype="float32",
    )
    assert re.findall(r"^## (.*)$", text, re.M) == ["Use"]
    assert "None" not in text
    assert "fine-tuned" not in text
    assert set(re.findall(r"\d+", text.partition("# plain")[2])) == {"512", "32", "2026", "11", "25"}


def test_the_front_matter_is_what_the_hub_reads() -> None:
    """License, languages, library, task and tags are YAML between dashes; the hub id of the origin is the base."""
    text = card(SPEC, CROSS, CardFacts(origin="BAAI/bge-reranker-base"), dtype="float16")
    _, front, _ = text.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "license": "apache-2.0",
        "language": ["zh", "en"],
        "library_name": "rerank-core",
        "pipeline_tag": "text-ranking",
        "tags": ["reranker", "rerank-core", "cross-encoder"],
        "base_model": "BAAI/bge-reranker-base",
    }
    assert "fine-tuned from `BAAI/bge-reranker-base`" in text
    assert "Weights are float16" in text


def test_the_use_block_runs(tmp_path: Path) -> None:
    """The three lines of the card are Python that loads a folder and ranks."""
    from rerank_core.testing import tiny_cross_encoder

    text = card(SPEC, CROSS, CardFacts(), dtype="float32", scaling=CalibrationMap("platt", 2.0, 0.1))
    code = text.split("```python\n")[1].split("```")[0]
    folder = tiny_cross_encoder(tmp_path / "tiny")
    names: dict[str, object] = {}
    exec(code.replace("path/to/this/folder", folder.as_posix()), names)
    ranking = names["ranking"]
    assert len(ranking) == 2  # type: ignore[arg-type]
    assert ranking.score_space == "probability"  # type: ignore[attr-defined]


def test_paths_of_the_trainers_machine_are_not_told(facts: CardFacts) -> None:
    """Of an origin on disk the last part is named; data and run folders not at all."""
    text = card(SPEC, CROSS, facts, dtype="float32")
    assert "alice" not in text
    assert "fine-tuned from `base-zh`" in text
    assert "base_model" not in text


def test_an_existing_folder_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """owner/name that is a directory here is a path."""
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert public_name("models/mine") == "mine"
    assert public_name("models/theirs") == "models/theirs"
    assert public_name("./models/mine") == "mine"


def test_results_stand_beside_those_before_training(facts: CardFacts) -> None:
    """Each measure has its mean and interval before and after, and the paired interval of the difference."""
    text = card(SPEC, CROSS, facts, dtype="float32")
    line = next(line for line in text.splitlines() if line.startswith("| nDCG@10"))
    before, after, gain = (
        interval(BEFORE["nDCG@10"]), interval(AFTER["nDCG@10"]), paired(BEFORE["nDCG@10"], AFTER["nDCG@10"]),
    )  # fmt: skip
    assert line == f"| nDCG@10 | {before} | {after} | {gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] |"
    assert "| AP | 0.2500 [0.1500, 0.3500] | 0.3500 [0.2500, 0.4500] | +0.1000 [+0.1000, +0.1000] |" in text
    assert "Dev set of 4 queries" in text
    assert "best nDCG@10 on this set" in text


def test_one_query_has_no_interval(facts: CardFacts) -> None:
    """A single query is a value, and no interval is invented for it."""
    alone = CardFacts(after=Result({"AP": 0.5}, {"AP": [0.5]}), date="2026-11-25", versions={})
    text = card(SPEC, CROSS, alone, dtype="float32")
    assert "| AP | 0.5000 |" in text
    assert "interval" not in text
    assert "Calibration" not in text


def test_settings_and_data_are_told(facts: CardFacts) -> None:
    """Objective, adapters, rates, sources with their rows and the digest stand in tables that no name can break."""
    text = card(SPEC, CROSS, facts, dtype="float32")
    for line in (
        '| objective | softmax_ce + 0.1 × bce {"pos_weight": 2.0} |',
        "| LoRA | r 8, alpha 64, dropout 0.05 |",
        "| learning rate | 3e-05, cosine, warm-up 0.1 |",
        "| steps | 77 |",
        "| train.jsonl | 12,345 |",
        "| a\\|b | 2 |",
        "SHA-256 of the training files: `" + "ab" * 32 + "`",
        "Made on 2026-11-25 with rerank-core 0.1.0, torch 2.13.0.",
    ):
        assert line in text.splitlines(), line


@pytest.mark.parametrize("scaling", [None, CalibrationMap("platt", 1.5, -0.25)])
def test_calibration_is_reported(facts: CardFacts, scaling: CalibrationMap | None) -> None:
    """Errors before and after the fit, and a histogram whose counts are all documents."""
    text = card(SPEC, CROSS, facts, dtype="float32", scaling=scaling)
    assert "Of 8 dev documents, 3 are relevant." in text
    told = "The published weights hold 1.5 × score - 0.25" if scaling else "Platt's fit to these labels is "
    assert told in text
    bars = text.split("```\n")[2].splitlines()[1:]
    assert len(bars) == 10
    counts = [re.findall(r"\d+", re.sub(r"-?\d+\.\d+", "", line)) for line in bars]
    assert [sum(int(line[place]) for line in counts) for place in (0, 1)] == [5, 3]
    top = 3.0 if scaling is None else 1.5 * 3 - 0.25
    assert f"to {top:>7.3f}" in bars[-1]


def test_a_language_model_is_described_as_one() -> None:
    """Tags and the class of transformers are a causal model's."""
    spec = ModelSpec("llm", head=Head.last_token("yes", "no"), template=Template(after="\n"))
    text = card(spec, KINDS["llm"], CardFacts(), dtype="bfloat16")
    assert "llm-reranker" in text
    assert "AutoModelForCausalLM" in text
    assert "CrossEncoder" not in text


def test_several_dev_sets_are_named(facts: CardFacts) -> None:
    """With their sizes; a correlation over pairs has no interval and no queries."""
    assert facts.config is not None
    told = replace(facts.config, train=replace(facts.config.train, metric="wikiqa/nDCG@10"))
    one = Result(
        {"wikiqa/nDCG@10": 0.5, "wikiqa/nDCG@10 (64)": 0.4, "sts/Spearman": 0.8123},
        {"wikiqa/nDCG@10": [0.4, 0.6], "wikiqa/nDCG@10 (64)": [0.3, 0.5]},
    )
    text = card(SPEC, CROSS, replace(facts, config=told, before=one, after=one), dtype="float32")
    assert "Dev sets, measured by the serving pipeline: wikiqa (2 queries), sts (text pairs)." in text
    assert "the best wikiqa/nDCG@10, so the metrics of its set are optimistic." in text
    assert "| sts/Spearman | 0.8123 | 0.8123 | +0.0000 |" in text
