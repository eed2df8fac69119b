"""Fine-tunes on real data: measures each objective over several seeds, and the model that training starts from.

    RERANK_DATA=... python benchmarks/fine_tuning.py [english] [chinese] [--seeds 3]

Every run trains as `rerank train reranker` does; the epoch is chosen on the dev set, and the test set is measured once.
An interrupted run continues. Results are in benchmarks/results/fine_tuning.json; docs/training-results.md has them as
tables (tools/tables/training.py).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parts.quality import judged
from parts.quality.judged import readers
from parts.quality.measuring import bm25, chance, measured

import rerank_core
from rerank_core.records.training_row import TrainingRow
from rerank_trainers.config.parse import parse_config
from rerank_trainers.loop.prepare import live_reranker
from rerank_trainers.mining import BM25, Corpus, MiningRules, mine
from rerank_trainers.teachers.label import label
from rerank_trainers.train import train

RESULTS = Path(__file__).parent / "results" / "fine_tuning.json"
WORK = Path(tempfile.gettempdir()) / "rerank-fine-tuning"


@dataclass(frozen=True)
class Experiment:
    """Settings of one run, and the test sets it is measured on.

    Attributes:
        train, dev: files of rows.
        tests: returns the rows of each test set.
        settings: settings of the run, as in a configuration file.
        start: returns the checkpoint that training starts from, given the seed.
    """

    name: str
    train: Path
    dev: Path
    tests: Mapping[str, Callable[[], list[TrainingRow]]]
    settings: Mapping[str, Any]
    start: Callable[[int], str] = field(default=lambda seed: "mini")


def english(data: Path) -> Iterator[Experiment]:
    """WikiQA, starting from all-MiniLM-L6-v2 as a cross-encoder with a new head, with and without first training on
    the scores of `mini`."""
    folder = WORK / "wikiqa"
    files = {
        split: judged.write(judged.rows_of(data, f"en_wikiqa/{split}"), folder / f"{split}.jsonl")
        for split in ("train", "dev")
    }
    near = {"wikiqa": lambda: judged.rows_of(data, "en_wikiqa/test")}
    far = {
        **near,
        "dl19": lambda: judged.dl19(data),
        "nfcorpus": lambda: judged.sample_of(data, "nfcorpus"),
        "scifact": lambda: judged.sample_of(data, "scifact"),
    }
    common = {
        "data": {"group_size": 4},
        "model": {"kind": "cross-encoder", "max_length": 256},
        "train": {"epochs": 3, "learning_rate": 1e-4, "batch_size": 16},
    }
    taught = lambda seed: str(_taught(data, files["dev"]))  # noqa: E731
    for objective, tests in (("softmax_ce", far), ("ranknet", near), ("bce", near)):
        settings = {**common, "objective": objective}
        yield Experiment(
            f"wikiqa {objective}, after mini's scores", files["train"], files["dev"], tests, settings, taught
        )
    scored = _with_mini_scores(data)
    yield Experiment(
        "wikiqa softmax_ce and mini's scores, after them", scored, files["dev"], far,
        {**common, "data": {"group_size": 6}, "objective": ["softmax_ce", {"name": "kl", "options": _NEAR}]}, taught,
    )  # fmt: skip
    yield Experiment(
        "wikiqa softmax_ce alone", files["train"], files["dev"], near, {**common, "objective": "softmax_ce"}
    )


# Cosines are so close together that a softmax at temperature 1 is almost uniform.
_NEAR = {"teacher_temperature": 0.05}


def _with_mini_scores(data: Path) -> Path:
    """WikiQA's training rows, each with six documents of other questions, and the scores of `mini`. All candidates of
    one question are of one article, so without other documents the model does not learn to reject other subjects."""
    file = WORK / "wikiqa" / "kept.jsonl"
    if not file.exists():
        rows = judged.rows_of(data, "en_wikiqa/train")
        texts = list(dict.fromkeys(text for row in rows for text in row.docs))
        draw = random.Random(0)
        wider = []
        for row in rows:
            others = [text for text in draw.sample(texts, 12) if text not in row.docs][:6]
            labels = (*(row.labels or ()), *[0.0] * len(others))
            wider.append(TrainingRow(row.query, (*row.docs, *others), labels, id=row.id))
        with rerank_core.load("mini", device="cpu") as mini:
            judged.write(label(wider, mini), file)
    return file


def _taught(data: Path, dev: Path) -> Path:
    """A cross-encoder trained on the scores of `mini` for training texts, without labels."""
    folder = WORK / "taught"
    if not (folder / "final").exists():
        if not (folder / "train.jsonl").exists():
            wiki = readers(data).wikiqa("train", answerable=False)
            rows = [*judged.as_rows("wikiqa", wiki), *judged.rows_of(data, "en_trecqa/train")]
            rows += judged.rows_of(data, "en_quora_rank/train")[:1000]
            with rerank_core.load("mini", device="cpu") as mini:
                unlabelled = (TrainingRow(row.query, row.docs, id=row.id) for row in rows)
                judged.write(label(unlabelled, mini), folder / "train.jsonl")
        settings = {
            "data": {"train": [str(folder / "train.jsonl")], "eval": [str(dev)], "group_size": 4, "on_error": "warn"},
            "model": {"checkpoint": "mini", "kind": "cross-encoder", "max_length": 256},
            "objective": [{"name": "kl", "options": _NEAR}],
            "train": {
                "out": str(folder),
                "epochs": 1,
                "learning_rate": 2e-4,
                "batch_size": 32,
                "device": "cpu",
                "seed": 0,
            },
        }
        train(parse_config(settings), overwrite=True)
    return folder / "final"


def chinese(data: Path) -> Iterator[Experiment]:
    """Small models trained from scratch with BERT-Chinese's vocabulary: mined negatives, graded labels, a teacher."""
    from_scratch = lambda seed: str(_small(data, seed))  # noqa: E731
    train = {"epochs": 6, "learning_rate": 5e-4, "batch_size": 32, "token_budget": 16384}
    common = {"model": {"max_length": 256}, "train": train}

    folder = WORK / "cepilepsyqa"
    pairs = judged.cepilepsyqa_pairs(data)
    if not (folder / "train.jsonl").exists():
        corpus = Corpus.of_rows(pairs)
        mined = list(mine(pairs, corpus, BM25(corpus.texts), MiningRules(negatives=15, depth=50, strategy="random")))
        held = mined[::12]
        judged.write(held, folder / "dev.jsonl")
        judged.write([row for row in mined if row not in held], folder / "train.jsonl")
    for objective in ("softmax_ce", "bce"):
        yield Experiment(
            f"cepilepsyqa {objective}", folder / "train.jsonl", folder / "dev.jsonl",
            {"cepilepsyqa dev": lambda: judged.rows_of(data, "zh_cepilepsyqa/dev")},
            {**common, "objective": objective, "train": {**train, "epochs": 3}}, from_scratch,
        )  # fmt: skip

    rows, test = judged.cmedir(data)
    folder = WORK / "cmedir"
    judged.write(rows[::10], folder / "dev.jsonl")
    judged.write([row for row in rows if row not in rows[::10]], folder / "train.jsonl")
    for objective in ("bce", "ranknet", "lambda", "listnet"):
        yield Experiment(
            f"cmedir {objective}", folder / "train.jsonl", folder / "dev.jsonl", {"cmedir test": lambda: test},
            {**common, "objective": objective, "data": {"label_range": [0, 4]}}, from_scratch,
        )  # fmt: skip

    taught = judged.t2rank_teacher(data)
    folder = WORK / "t2rank"
    judged.write(taught[:60], folder / "train.jsonl")
    judged.write(taught[60:70], folder / "dev.jsonl")
    for name, objective in (("bce on labels", "bce"), ("kl from the teacher", {"name": "kl"})):
        yield Experiment(
            f"t2rank100 {name}", folder / "train.jsonl", folder / "dev.jsonl", {"t2rank100": lambda: taught[70:]},
            {**common, "objective": [objective]}, from_scratch,
        )  # fmt: skip


def _small(data: Path, seed: int) -> Path:
    """A BERT of 2 layers x 128 with random weights and BERT-Chinese's tokenizer."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, set_seed

    folder = WORK / f"bert-zh-{seed}"
    if not (folder / "model.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(data / "tokenizers" / "bert-base-chinese" / "vocab.txt", folder / "vocab.txt")
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(str(folder))
        set_seed(seed)
        config = BertConfig(
            vocab_size=21_128, hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512,
            num_labels=1,
        )  # fmt: skip
        BertForSequenceClassification(config).save_pretrained(str(folder))
    return folder


def run(experiment: Experiment, seed: int) -> dict[str, Any]:
    """Train once and measure on every test set, with nDCG@10 of each query for paired comparisons."""
    settings = dict(experiment.settings)
    settings["data"] = {**settings.get("data", {}), "train": [str(experiment.train)], "eval": [str(experiment.dev)]}
    settings["data"]["on_error"] = "warn"
    settings["model"] = {**settings["model"], "checkpoint": experiment.start(seed)}
    out = WORK / f"run-{os.getpid()}"
    shutil.rmtree(out, ignore_errors=True)
    settings["train"] = {**settings["train"], "out": str(out), "seed": seed, "device": "cpu", "keep_checkpoints": 1}
    started = time.perf_counter()
    outcome = train(parse_config(settings), publish=False)
    seconds = time.perf_counter() - started
    reranker = live_reranker(outcome.run.model)
    result: dict[str, Any] = {"seconds": round(seconds), "best_dev": outcome.run.trainer.state.best_metric, "tests": {}}
    for name, rows in experiment.tests.items():
        result["tests"][name] = measured(rows(), reranker)
    return result


def start(data: Path, tests: Mapping[str, Callable[[], list[TrainingRow]]]) -> dict[str, Any]:
    """Measure the model trained on the scores of `mini` alone, which other runs start from."""
    dev = judged.write(judged.rows_of(data, "en_wikiqa/dev"), WORK / "wikiqa" / "dev.jsonl")
    with rerank_core.load(_taught(data, dev), device="cpu") as taught:
        return {"tests": {name: measured(rows(), taught) for name, rows in tests.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["english", "chinese"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="run only experiments with this text in their names")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results, one for each process")
    arguments = parser.parse_args()
    if "RERANK_DATA" not in os.environ:
        sys.exit("RERANK_DATA is not set: it names the folder with the judged data")
    data = Path(os.environ["RERANK_DATA"])
    results: Path = arguments.results
    done: dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}

    def keep(name: str, make: Callable[[], dict[str, Any]]) -> None:
        if name in done:
            return
        print(f"{name} ...", file=sys.stderr, flush=True)
        done[name] = make()
        results.write_text(json.dumps(done, ensure_ascii=False) + "\n", encoding="utf-8")
        means = {test: one["means"] for test, one in done[name]["tests"].items()}
        print(f"{name}: {means}", file=sys.stderr, flush=True)

    for part in arguments.parts:
        experiments = [
            one for one in {"english": english, "chinese": chinese}[part](data) if arguments.only in one.name
        ]
        tests = {name: rows for one in experiments for name, rows in one.tests.items()}
        for name, rows in tests.items():
            keep(f"chance on {name}", lambda rows=rows, name=name: {"tests": {name: chance(rows())}})
            keep(f"bm25 on {name}", lambda rows=rows, name=name: {"tests": {name: bm25(rows())}})
        if part == "english":
            with rerank_core.load("mini", device="cpu") as mini:
                for name, rows in tests.items():
                    keep(f"mini on {name}", lambda rows=rows, name=name: {"tests": {name: measured(rows(), mini)}})
            if not arguments.only:
                keep("wikiqa mini's scores, no label seed 0", lambda tests=tests: start(data, tests))
        for seed in range(1, arguments.seeds + 1):
            for experiment in experiments:
                keep(f"{experiment.name} seed {seed}", lambda one=experiment, seed=seed: run(one, seed))


if __name__ == "__main__":
    main()
