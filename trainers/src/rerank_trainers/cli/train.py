"""``rerank train reranker``, ``llm``, ``embedding`` and ``colbert``: train from a configuration and publish."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rerank_core.cli.shared import AsJson, Encoding, emit_json, note, show, table
from rerank_core.progress import bar
from rerank_trainers.cli.data_flags import LabelRange, Objective, OnErrorFlag, ScoresAreFlag, Settings, data_settings
from rerank_trainers.config.parse import parse_config, read_config, set_values
from rerank_trainers.config.recipes import RECIPES, merge_configs

__all__ = ["colbert", "embedding", "llm", "reranker"]

_INTERRUPTED = 130  # exit code of Ctrl-C

_Config = Annotated[Path | None, typer.Argument(metavar="CONFIG", help="YAML or JSON; see docs/training.md.")]
_Train = Annotated[
    list[str] | None, typer.Option("--train", metavar="FILE", help="File of training data; can be repeated.")
]
_Eval = Annotated[
    list[str] | None, typer.Option("--eval", metavar="FILE", help="File of a labelled dev set; can be repeated.")
]
_Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Model to start from: a directory, a hub id or a model's name.")
]
_Out = Annotated[
    str | None, typer.Option("--out", "-o", help="Folder of the run; the model is published in its subfolder final.")
]
_Like = Annotated[
    str | None,
    typer.Option(help="Model whose template, head and limits are used, such as qwen3-reranker-0.6b or bge-m3-colbert."),
]
_Resume = Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint of the run.")]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Delete the checkpoints of an earlier run and start anew.")
]
_DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check data, settings and model without training, and print the resolved configuration."
    ),
]


def _command(recipe: str, description: str) -> Callable[..., None]:
    """The command that trains by a recipe."""

    def command(
        config: _Config = None,
        train: _Train = None,
        evaluate: _Eval = None,
        model: _Model = None,
        like: _Like = None,
        out: _Out = None,
        objective: Objective = None,
        label_range: LabelRange = None,
        scores_are: ScoresAreFlag = None,
        on_error: OnErrorFlag = None,
        encoding: Encoding = None,
        settings: Settings = None,
        resume: _Resume = False,
        overwrite: _Overwrite = False,
        dry_run: _DryRun = False,
        as_json: AsJson = False,
    ) -> None:
        data = data_settings(train, evaluate, label_range, scores_are, on_error, encoding)
        flags = _flags(data, model, out, objective)
        if like is not None:
            flags.setdefault("model", {})["like"] = like
        _launch(
            recipe, config, flags, settings or [], resume=resume, overwrite=overwrite, dry_run=dry_run, as_json=as_json
        )

    command.__name__ = recipe
    command.__doc__ = description
    return command


reranker = _command(
    "reranker",
    """Fine-tune a cross-encoder.

    \b
    Examples:
      rerank train reranker --train train.jsonl --eval dev.jsonl --model BAAI/bge-reranker-base
      rerank train reranker run.yaml --set train.epochs=3 --set objective=softmax_ce
      rerank train reranker run.yaml --resume
      torchrun --nproc-per-node 4 -m rerank_core train reranker run.yaml
    """,
)

llm = _command(
    "llm",
    """Fine-tune a causal language model as a yes-or-no reranker (LoRA; --set model.lora=null trains all weights).

    \b
    Examples:
      rerank train llm --train train.jsonl --eval dev.jsonl --model Qwen/Qwen3-Reranker-0.6B
      rerank train llm --train train.jsonl --model Qwen/Qwen2.5-0.5B --like qwen3-reranker-0.6b
    """,
)

embedding = _command(
    "embedding",
    """Fine-tune an embedding model: one vector per text, compared by the cosine.

    \b
    Examples:
      rerank train embedding --train train.jsonl --eval dev.jsonl --model mini
      rerank train embedding --train train.jsonl --model BAAI/bge-small-zh-v1.5 --set model.matryoshka=[512,256,128]
      rerank train embedding --train scored.jsonl --model mini --objective kl
    """,
)

colbert = _command(
    "colbert",
    """Fine-tune a late-interaction model: one vector per token, compared by MaxSim.

    \b
    Examples:
      rerank train colbert --train train.jsonl --eval dev.jsonl --model mini --set publish.average_with_start=0.5
      rerank train colbert --train train.jsonl --model bert-base-chinese --set model.width=128
    """,
)


def _flags(data: dict[str, Any], model: str | None, out: str | None, objective: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {"data": data} if data else {}
    if model:
        given["model"] = {"checkpoint": model}
    if out:
        given["train"] = {"out": out}
    return given | ({"objective": objective} if objective else {})


def _launch(
    recipe: str,
    path: Path | None,
    flags: dict[str, Any],
    settings: Sequence[str],
    *,
    resume: bool,
    overwrite: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    merged = merge_configs(merge_configs(RECIPES[recipe], {} if path is None else read_config(path)), flags)
    config = parse_config(set_values(merged, settings))
    # torch takes seconds to import, so the settings are checked first.
    from rerank_trainers.loop.callbacks import Display
    from rerank_trainers.train import leave, rehearse, train

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with bar(True, "reading") as progress:
        if dry_run:
            data = rehearse(config, resume=resume, overwrite=overwrite, progress=progress)
            leave()
            if os.environ.get("RANK", "0") == "0":  # of torchrun's processes only the first prints
                emit_json({**dataclasses.asdict(config), "rows": len(data.rows)})
            return
        outcome = train(config, resume=resume, overwrite=overwrite, callbacks=[Display()], progress=progress)
    leave()
    if not outcome.run.trainer.is_world_process_zero():
        return
    if as_json:
        emit_json(outcome.to_dict())
    else:
        _report(outcome)
    if outcome.run.collapsed:
        raise typer.Exit(1)
    if outcome.run.interrupted:
        raise typer.Exit(_INTERRUPTED)  # so that a script does not continue as if training had finished


def _report(outcome: Any) -> None:
    summary = outcome.to_dict()
    if outcome.after is not None:
        rows = [
            (name, "" if outcome.before is None else f"{outcome.before.values[name]:.4f}", f"{value:.4f}")
            for name, value in outcome.after.values.items()
        ]
        show(table(("dev set", "before", "after"), rows, right=("before", "after")))
    if summary["interrupted"]:
        note(f"stopped at step {summary['steps']}; `--resume` continues from there")
    elif summary["published"]:
        size = sum(path.stat().st_size for path in Path(summary["published"]).rglob("*") if path.is_file())
        note(f"published, {size / 1e6:,.0f} MB; try it: rerank rank QUERY FILES --model {summary['published']}")
