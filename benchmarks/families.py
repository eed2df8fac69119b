"""Times other families of classifiers in rerank-core and in sentence-transformers; part of `make bench`.

    RERANK_DATA=... python benchmarks/families.py [--rounds 5]

Two folders that sentence-transformers saves: a mean-pooled ModernBERT (the shape of gte-reranker-modernbert, scaled
down), and a Qwen3 classifier whose chat template writes query and document, as the classifiers made from
Qwen3-Reranker do. Weights are random, tokenizers and texts are real. As in bench.py, every engine runs in its own
process, the engines take turns, scores are compared in the same run, and an interrupted run continues.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
from pathlib import Path
from statistics import median
from typing import Any

from engines.engine import Engine
from parts.qwen3_card import SETTINGS
from parts.run import drift, folders, machine, results, write
from parts.turns import Measurements, interleaved
from parts.workloads import requests

WIDTH = 512
CELLS = (
    ("modernbert-mean", "t2rank-sample"),
    ("modernbert-mean", "dl19"),
    ("qwen3-classifier", "t2rank-sample"),
    ("qwen3-classifier", "dl19"),
)


def checkpoint(folder: Path, shape: str, data: Path) -> Path:
    """The folder of a shape, written once by sentence-transformers."""
    directory = folder / shape
    if (directory / "config_sentence_transformers.json").exists():
        return directory
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    made = folder / f"{shape}-plain"
    made.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    small = {"hidden_size": WIDTH, "num_hidden_layers": 8, "num_attention_heads": 8, "num_labels": 1}
    if shape == "modernbert-mean":
        tokenizer = data / "tokenizers" / "bert-base-chinese"
        roles = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
        settings: dict[str, Any] = {f"{role}_token": token for role, token in roles.items()}
        config = AutoConfig.for_model(
            "modernbert", **small, intermediate_size=768, classifier_pooling="mean", initializer_range=0.05,
            pad_token_id=0, cls_token_id=101, sep_token_id=102, vocab_size=21128, max_position_embeddings=8192,
        )  # fmt: skip
    else:
        tokenizer, settings = data / "tokenizers" / "qwen", SETTINGS
        config = AutoConfig.for_model(
            "qwen3", **small, intermediate_size=1536, num_key_value_heads=4, head_dim=64, vocab_size=151936,
            pad_token_id=151643, max_position_embeddings=8192, initializer_range=0.05,
        )  # fmt: skip
    shutil.copyfile(tokenizer / "tokenizer.json", made / "tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **settings}
    (made / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    AutoModelForSequenceClassification.from_config(config).save_pretrained(made)
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(made), device="cpu", max_length=512).save_pretrained(str(directory))
    return directory


def run_cell(
    shape: str, workload: str, rounds: int, folder: Path, data: Path, measurements: Measurements
) -> dict[str, Any]:
    """Median seconds of each engine, and the median ratio to ours in the same round."""
    directory = checkpoint(folder, shape, data)
    file = folder / f"{workload}.json"
    file.write_text(json.dumps(requests(workload, data)), encoding="utf-8")
    # sentence-transformers is installed beside us, in the version that writes such folders.
    engines = {
        name: functools.partial(Engine, name, directory, "engines/cross_encoder_engines.py")
        for name in ("ours", "sentence-transformers")
    }
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    scores: list[float] = []
    drifts: dict[str, float] = {}
    turns = interleaved(
        engines, dict.fromkeys(engines, file), rounds, cell=f"{shape}/{workload}", measurements=measurements
    )
    for number, name, answer in turns:
        if name == "ours":
            scores = answer["scores"]
        seconds[name].append(answer["seconds"])
        drifts[name] = drift(scores, answer["scores"])
        print(f"{shape}/{workload} round {number} {name:22} {answer['seconds']:8.2f} s", file=sys.stderr)
    figures = {
        name: {
            "seconds": round(median(times), 3),
            "ratio": round(median(a / b for a, b in zip(times, seconds["ours"], strict=True)), 2),
            "drift": drifts[name],
        }
        for name, times in seconds.items()
    }
    return {"shape": shape, "workload": workload, "rounds": rounds, "engines": figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="discard the measurements of earlier runs")
    parser.add_argument("--json", type=Path, default=results("families"))
    options = parser.parse_args()
    data, folder = folders()
    measurements = Measurements(folder, "families", fresh=options.fresh)
    cells = []
    for shape, workload in CELLS:
        cells.append(run_cell(shape, workload, options.rounds, folder, data, measurements))
        write(options.json, {"machine": machine(), "cells": cells})


if __name__ == "__main__":
    main()
