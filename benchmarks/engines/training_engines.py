"""Trainers, each in the environment of its library: run as ``training_engines.py NAME DIRECTORY``; requests
and answers are JSON lines.

Every engine is the trainer that the library's documentation shows, with its own batches, collator and loss, over the
same rows in the same order. All of them run transformers' Trainer, so optimizer, clipping and precision are the same
code. A callback measures the time: a request trains a number of optimizer steps, and the time includes reading and
tokenizing their rows.

The first request trains two steps of SGD without dropout on ``DIRECTORY-still``, whose losses must be equal for all
engines (the second loss is computed after one update of the weights), and then warms up. Later requests are timed.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from engines.worker import open_reply

WARM_UP = 2
STILL = "-still"
Make = Callable[[str, dict[str, Any], dict[str, Any]], Any]
"""Returns a trainer for a checkpoint, the work and transformers' arguments."""


def ours(directory: str, work: dict[str, Any], arguments: dict[str, Any], **options: Any) -> Any:
    """The trainer of ``rerank train``, with rows in the order of the file."""
    from rerank_core.records.training_row import TrainingRow
    from rerank_trainers.config.parse import parse_config
    from rerank_trainers.kinds import kind_of
    from rerank_trainers.loop.dataset import Item, Steps
    from rerank_trainers.loop.prepare import prepare

    class InOrder(Steps):
        """Steps over rows in the order of the file; a run shuffles them."""

        def __iter__(self) -> Iterator[list[Item]]:
            for start in range(0, len(rows), work["batch"]):
                step = range(start, min(start + work["batch"], len(rows)))
                yield [Item(row, self.epoch, 1 / len(step)) for row in step]

    rows = [
        TrainingRow(query, tuple(docs), tuple(float(not position) for position in range(len(docs))), id=str(number))
        for number, (query, docs) in enumerate(work["groups"])
    ]
    settings = {
        "model": {
            "checkpoint": directory, "max_length": work["max_length"], "layout": options.get("layout", "packed"),
            **options.get("model", {}),
        },
        "data": {"group_size": 0, "unique_texts": False},
        "objective": options.get("objective", "softmax_ce"),
        "train": {
            "out": arguments["output_dir"], "batch_size": work["batch"], "max_steps": arguments["max_steps"],
            "eval_steps": 10**9, "device": work["device"], "precision": "bf16" if arguments["bf16"] else "float32",
            "learning_rate": arguments["learning_rate"], "warmup": 0.0, "schedule": "constant",
            "weight_decay": arguments["weight_decay"], **options.get("train", {}),
            "arguments": {"optim": arguments["optim"]} if "optim" in arguments else {},
        },
    }  # fmt: skip
    config = parse_config(settings)
    trainer = prepare(config, kind_of(config.model), rows).trainer
    shuffled = trainer.get_train_dataloader

    def in_order() -> Any:
        loader = shuffled()
        loader.batch_sampler.__class__ = InOrder
        return loader

    trainer.get_train_dataloader = in_order
    return trainer


def ours_padded(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    return ours(directory, work, arguments, layout="padded")


def ours_wide(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """A step in one pass, as the other libraries compute it."""
    return ours(directory, work, arguments, train={"token_budget": 1 << 17})


def ours_bce(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    return ours(directory, work, arguments, objective="bce")


def flagembedding(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """FlagEmbedding's runner for encoders: a row of the batch is one group; softmax cross-entropy of the positive."""
    from FlagEmbedding.abc.finetune.reranker import (
        AbsRerankerDataArguments,
        AbsRerankerModelArguments,
        AbsRerankerTrainingArguments,
    )
    from FlagEmbedding.finetune.reranker.encoder_only.base.runner import EncoderOnlyRerankerRunner

    file = Path(arguments["output_dir"]).with_suffix(".jsonl")
    lines = ({"query": query, "pos": docs[:1], "neg": docs[1:]} for query, docs in work["groups"])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    # With a query limit of 0 a document may fill the rest of the row, as in the other libraries.
    data = AbsRerankerDataArguments(
        train_data=[str(file)], cache_path=arguments["output_dir"] + "-cache", query_max_len=0,
        passage_max_len=work["max_length"], train_group_size=len(work["groups"][0][1]),
    )  # fmt: skip
    train = AbsRerankerTrainingArguments(
        per_device_train_batch_size=work["batch"], train_sampling_strategy="sequential", **arguments
    )
    return EncoderOnlyRerankerRunner(AbsRerankerModelArguments(directory), data, train).trainer


def sentence_transformers(
    directory: str, work: dict[str, Any], arguments: dict[str, Any], *, listwise: bool = True
) -> Any:
    """ListNet over a group, or BCE, the library's default loss, over the same pairs. Labels of 1000 and 0 give ListNet
    a target of 1 on the positive and 0 elsewhere."""
    from datasets import Dataset
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        losses,
    )
    from torch.utils.data import SequentialSampler

    model = CrossEncoder(directory, device=work["device"], max_length=work["max_length"])
    groups, size = work["groups"], work["batch"]
    if listwise:
        labels = [[0.0 if position else 1000.0 for position in range(len(docs))] for _, docs in groups]
        columns = {"query": [query for query, _ in groups], "docs": [docs for _, docs in groups], "labels": labels}
        loss = losses.ListNetLoss(model)
    else:
        pairs = [(query, doc, float(not position)) for query, docs in groups for position, doc in enumerate(docs)]
        columns = dict(zip(("query", "doc", "label"), map(list, zip(*pairs, strict=True)), strict=True))
        size *= len(groups[0][1])
        loss = losses.BinaryCrossEntropyLoss(model)
    train = CrossEncoderTrainingArguments(
        per_device_train_batch_size=size,
        batch_sampler=lambda dataset, **more: DefaultBatchSampler(SequentialSampler(dataset), **more),
        **arguments,
    )
    return CrossEncoderTrainer(model=model, args=train, train_dataset=Dataset.from_dict(columns), loss=loss)


def sentence_transformers_bce(directory: str, work: dict[str, Any], arguments: dict[str, Any]) -> Any:
    return sentence_transformers(directory, work, arguments, listwise=False)


ENGINES: dict[str, Make] = {
    "ours": ours, "ours-padded": ours_padded, "ours-wide": ours_wide, "ours-bce": ours_bce,
    "flagembedding": flagembedding, "sentence-transformers": sentence_transformers,
    "sentence-transformers-bce": sentence_transformers_bce,
}  # fmt: skip


def arguments_of(folder: Path, work: dict[str, Any], **more: Any) -> dict[str, Any]:
    """transformers' arguments, the same for every engine; the optimizer is transformers' default, AdamW."""
    return {
        "output_dir": str(folder), "learning_rate": 2e-5, "lr_scheduler_type": "constant", "weight_decay": 0.01,
        "save_strategy": "no", "report_to": "none", "disable_tqdm": True, "use_cpu": work["device"] == "cpu",
        "bf16": work["precision"] == "bf16", **more,
    }  # fmt: skip


def losses_of(make: Make, directory: str, work: dict[str, Any], folder: Path, steps: int = 2) -> list[float]:
    """Losses of the first steps of plain gradient descent, without dropout."""
    arguments = arguments_of(folder, work, max_steps=steps, optim="sgd", bf16=False)
    trainer = make(directory + STILL, work, {**arguments, "learning_rate": 0.1, "weight_decay": 0.0})
    losses: list[float] = []
    training_step = trainer.training_step

    def recorded(*args: Any, **options: Any) -> Any:
        loss = training_step(*args, **options)
        losses.append(float(loss))
        return loss

    trainer.training_step = recorded
    trainer.train()
    return losses


def timed(trainer: Any, steps: int, requests: Iterator[str], reply: Callable[[float], None]) -> None:
    """Warm up and reply; then train ``steps`` steps for each request, and reply with their seconds."""
    import torch
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        left, began = WARM_UP, time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            self.left -= 1
            if self.left:
                return
            if args.device.type == "cuda":
                torch.cuda.synchronize()
            reply(time.perf_counter() - self.began)
            control.should_training_stop = next(requests, None) is None
            self.left, self.began = steps, time.perf_counter()

    trainer.add_callback(Clock())
    trainer.train()


def main(name: str, directory: str, engines: Mapping[str, Make] = ENGINES) -> None:
    """Serve one of the engines: answers have the seconds, the first losses and the peak memory in bytes."""
    write = open_reply()
    requests = iter(sys.stdin.readline, "")
    first = next(requests, None)
    if first is None:
        return
    work = json.loads(Path(json.loads(first)["file"]).read_text(encoding="utf-8"))
    make = engines[name]
    with tempfile.TemporaryDirectory() as scratch:
        losses = losses_of(make, directory, work, Path(scratch) / "check")

        def reply(seconds: float) -> None:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            write({"seconds": seconds, "scores": losses, "peak": peak})

        trainer = make(directory, work, arguments_of(Path(scratch) / "run", work, max_steps=10**6))
        timed(trainer, len(work["groups"]) // work["batch"], requests, reply)


if __name__ == "__main__":
    main(*sys.argv[1:])
